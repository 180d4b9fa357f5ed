"""The slow edge list, and a model's answer for whole structures made from it.

Edges come from a loop over all lattice shifts and all pairs; nothing here is shared
with the neighbor list of the core, which it judges.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from structures import Structure
from variants import ATOMIC_NUMBERS

from petmad.model import EdgeGraph, Potential
from petmad.model.folds import fold_forces, fold_strain_gradients


@dataclasses.dataclass
class Edges:
    """A full list, ascending by center."""

    centers: np.ndarray
    neighbors: np.ndarray
    shifts: np.ndarray
    vectors: np.ndarray
    reverse: np.ndarray


def shift_range(structure: Structure, cutoff: float) -> list[range]:
    """Lattice shifts that may reach a neighbor, per direction; wrapped or not."""
    ranges = [range(1)] * 3
    periodic = np.flatnonzero(structure.pbc)
    if len(periodic) == 0 or len(structure) == 0:
        return ranges
    to_fractional = np.linalg.pinv(structure.cell[periodic])
    fractional = structure.positions @ to_fractional
    for column, direction in enumerate(periodic):
        spread = np.ptp(fractional[:, column])
        reach = cutoff * np.linalg.norm(to_fractional[:, column]) + spread
        n = int(np.ceil(reach))
        ranges[direction] = range(-n, n + 1)
    return ranges


def brute_force_edges(structure: Structure, cutoff: float) -> Edges:
    """All edges with 0 < distance <= cutoff or a lattice shift."""
    found = []
    x = structure.positions
    for shift in itertools.product(*shift_range(structure, cutoff)):
        vectors = x[None, :] - x[:, None] + np.array(shift) @ structure.cell
        near = np.linalg.norm(vectors, axis=2) <= cutoff
        if not any(shift):
            np.fill_diagonal(near, False)
        found.extend((int(i), int(j), *shift) for i, j in np.argwhere(near))
    found.sort()
    index = {edge: k for k, edge in enumerate(found)}
    reverse = [index[(j, i, -a, -b, -c)] for i, j, a, b, c in found]
    table = np.array(found, dtype=np.int64).reshape(-1, 5)
    centers, neighbors, shifts = table[:, 0], table[:, 1], table[:, 2:]
    vectors = x[neighbors] - x[centers] + shifts @ structure.cell
    return Edges(centers, neighbors, shifts, vectors, np.array(reverse, np.int64))


def make_graph(
    structures: Sequence[Structure], cutoff: float, order: np.ndarray | None = None
) -> EdgeGraph:
    """One graph of several structures; ``order`` permutes edges that share a center."""
    lists = [brute_force_edges(s, cutoff) for s in structures]
    atoms = np.cumsum([0, *(len(s) for s in structures)])
    starts = np.cumsum([0, *(len(e.centers) for e in lists)])
    centers = np.concatenate(
        [e.centers + o for e, o in zip(lists, atoms, strict=False)]
    )
    neighbors = np.concatenate(
        [e.neighbors + o for e, o in zip(lists, atoms, strict=False)]
    )
    reverse = np.concatenate(
        [e.reverse + o for e, o in zip(lists, starts, strict=False)]
    )
    vectors = np.concatenate([e.vectors for e in lists]).reshape(-1, 3)
    if order is not None:
        new_index = np.argsort(order)
        centers, neighbors, vectors = centers[order], neighbors[order], vectors[order]
        reverse = new_index[reverse[order]]
    numbers = np.concatenate([s.numbers for s in structures])
    owners = np.repeat(np.arange(len(structures)), [len(s) for s in structures])
    return EdgeGraph(
        edge_vectors=torch.from_numpy(vectors).requires_grad_(),
        centers=torch.from_numpy(centers),
        neighbors=torch.from_numpy(neighbors),
        reverse_edges=torch.from_numpy(reverse),
        species=torch.from_numpy(np.searchsorted(ATOMIC_NUMBERS, numbers)),
        structures=torch.from_numpy(owners),
        charges=torch.tensor([s.charge for s in structures]),
        spin_multiplicities=torch.tensor([s.spin_multiplicity for s in structures]),
        halo=0,
    )


@dataclasses.dataclass
class Answer:
    """What a potential says; energies in eV, forces in eV/Å, strain gradients in eV."""

    energy: np.ndarray
    atomic_energies: np.ndarray
    forces: np.ndarray
    strain_gradients: np.ndarray
    outputs: dict[str, np.ndarray]


def answer_graph(
    model: Potential | torch.jit.ScriptModule,
    graph: EdgeGraph,
    outputs: Sequence[str] = (),
) -> Answer:
    """Energy per structure and its folds, plus other outputs per atom."""
    with torch.jit.optimized_execution(False):  # compiles for each shape otherwise
        results = model(graph, ["energy", *outputs])
    atomic = results["energy"][:, 0]
    n_structures = len(graph.charges)
    (gradients,) = torch.autograd.grad(
        atomic.sum(), graph.edge_vectors, retain_graph=True, materialize_grads=True
    )
    energy = torch.zeros(n_structures, dtype=torch.float64)
    energy = energy.index_add(0, graph.structures, atomic.detach().double())
    forces = fold_forces(gradients, graph.centers, graph.neighbors, len(graph.species))
    edge_structures = graph.structures[graph.centers]
    strain = fold_strain_gradients(
        gradients, graph.edge_vectors.detach(), edge_structures, n_structures
    )
    return Answer(
        energy.numpy(),
        atomic.detach().numpy(),
        forces.numpy(),
        strain.numpy(),
        {name: results[name].detach().numpy() for name in outputs},
    )


def answer(
    model: Potential, structures: Structure | Sequence[Structure], outputs=()
) -> Answer:
    """:func:`answer_graph` on structures, with the edges of the model's raw cutoff."""
    if isinstance(structures, Structure):
        structures = [structures]
    return answer_graph(model, make_graph(structures, model.network.cutoff), outputs)

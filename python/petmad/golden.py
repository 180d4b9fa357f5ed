"""Golden structures: small systems with a model's own answers, stored in its file.

Whoever loads the file evaluates them and compares, see ``Engine::check_golden``.
"""

import numpy as np
import torch

from .model import EdgeGraph, Potential
from .model.folds import fold_forces, fold_virial
from .neighbors import neighbor_list


def golden_systems(potential: Potential) -> list[dict[str, torch.Tensor]]:
    """Three small systems of the model's species: a cluster, a crystal cell, a slab.

    Neighbors sit near 2 Å, so that every layer is exercised.
    """
    rng = np.random.default_rng(2025)
    n_species = len(potential.atomic_numbers)
    zero = np.zeros((3, 3))
    skewed = np.array([[4.1, 0.2, -0.3], [0.9, 4.4, 0.4], [-0.7, 0.8, 4.7]])
    flat = np.array([[5.0, 0.3, 0.0], [0.0, 5.2, 0.0], [0.0, 0.0, 0.0]])
    spots = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])
    systems = []
    for n_atoms, cell, pbc in ((6, zero, "FFF"), (5, skewed, "TTT"), (7, flat, "TTF")):
        positions = 2.1 * spots[:n_atoms] + 0.2 * rng.standard_normal((n_atoms, 3))
        systems.append(
            {
                "positions": torch.tensor(positions),
                "cell": torch.tensor(cell),
                "pbc": torch.tensor([p == "T" for p in pbc]),
                "species": torch.tensor(rng.integers(0, n_species, n_atoms)),
                "charge": torch.tensor(0),
                "spin_multiplicity": torch.tensor(1),
            }
        )
    return systems


def system_graph(system: dict[str, torch.Tensor], cutoff: float) -> EdgeGraph:
    """Atoms and edges of a system of the keys of :func:`golden_systems`."""
    positions, cell = system["positions"], system["cell"]
    edges = neighbor_list(positions, cell, system["pbc"], cutoff)
    vectors = positions[edges.neighbors] - positions[edges.centers]
    vectors = vectors + edges.cell_shifts.to(torch.float64) @ cell
    return EdgeGraph(
        vectors,
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        system["species"],
        torch.zeros(positions.shape[0], dtype=torch.int64),
        system["charge"].reshape(1),
        system["spin_multiplicity"].reshape(1),
        0,
    )


def evaluate_golden(
    potential: Potential, system: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The system with the answers of the eager model.

    Energy, atomic energies, forces and virial where the model has an energy, and the
    rows of atoms of each tensor target as ``tensor/<name>``; all float64.
    """
    graph = system_graph(system, potential.config.cutoff)
    names = [target.name for target in potential.targets if target.blocks]
    has_energy = "energy" in potential.target_names
    vectors = graph.edge_vectors.requires_grad_(has_energy)
    outputs = potential(graph, names + ["energy"] * has_energy)
    answers = {f"tensor/{name}": outputs[name].detach() for name in names}
    if has_energy:
        atomic_energies = outputs["energy"][:, 0]
        (gradients,) = torch.autograd.grad(atomic_energies.sum(), vectors)
        n_atoms = graph.structures.shape[0]
        answers["energy"] = atomic_energies.sum().detach()
        answers["atomic_energies"] = atomic_energies.detach()
        answers["forces"] = fold_forces(
            gradients, graph.centers, graph.neighbors, n_atoms
        )
        answers["virial"] = fold_virial(gradients, vectors.detach())
    return {**system, **answers}

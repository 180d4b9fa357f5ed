"""Predictions, scaled targets and the loss.

Everything is in units of the energy scale: predictions are raw network output, targets
have their composition and ZBL subtracted in float64 and are divided by the scale.

A model may have several energies, one per level of theory. Each structure belongs to
one level, so that whatever the levels in a batch, there is one evaluation and one
gradient: of the sum over structures of the energy at their own level.
"""

from typing import NamedTuple

import torch

from petmad.data import Batch
from petmad.model import EdgeGraph, Potential
from petmad.model.folds import fold_forces, fold_strain_gradients

from .loss_options import LossOptions, LossTerm


ENERGY = "energy"
"""Name of the energy target."""


class Labels(NamedTuple):
    """Energies and their gradients, predicted or true; float64.

    Attributes:
        energies: [n_structures].
        forces: [n_atoms, 3], NaN where unknown.
        strain_gradients: [n_structures, 3, 3], NaN where unknown.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    strain_gradients: torch.Tensor


class Levels(NamedTuple):
    """Which of a model's energies each structure belongs to.

    Attributes:
        names: of the energies, in the order of their indices.
        of_structures: [n_structures] int64 index.
    """

    names: list[str]
    of_structures: torch.Tensor


def level_names(potential: Potential) -> list[str]:
    """The energies of a model: ``energy`` first, then ``energy/<level>`` in order."""
    names = potential.target_names
    further = [name for name in names if name.startswith(f"{ENERGY}/")]
    return [ENERGY, *further] if ENERGY in names else []


def predict(
    potential: Potential,
    graph: EdgeGraph,
    raw: bool = False,
    create_graph: bool = False,
) -> Labels:
    """Energies, forces and strain gradients from one evaluation and one gradient.

    Args:
        potential: the model.
        graph: its input; the gradient is with respect to a copy of its vectors.
        raw: in units of the energy scale, without composition and ZBL, instead of eV.
        create_graph: keep the gradient differentiable, as training needs it.
    """
    return predict_with(potential, graph, [], raw, create_graph)[0]


def predict_with(
    potential: Potential,
    graph: EdgeGraph,
    outputs: list[str],
    raw: bool = False,
    create_graph: bool = False,
    levels: Levels | None = None,
    with_gradients: bool = True,
) -> tuple[Labels, dict[str, torch.Tensor]]:
    """:func:`predict`, and other outputs per atom from the same evaluation.

    With ``levels``, the energy of each structure is that of its own level. Without
    gradients, forces and strain gradients are NaN.
    """
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    graph = graph._replace(edge_vectors=vectors)
    if levels is None:
        n_structures = graph.charges.shape[0]
        levels = Levels([ENERGY], graph.structures.new_zeros(n_structures))
    results = potential(graph, [*levels.names, *outputs], raw)
    atomic = energies_by_level(results, graph, levels)
    energies = sum_by_structure(atomic, graph)
    others = {name: results[name] for name in outputs}
    if not with_gradients:
        forces = energies.new_full((len(graph.species), 3), float("nan"))
        strains = energies.new_full((len(energies), 3, 3), float("nan"))
        return Labels(energies, forces, strains), others
    (gradients,) = torch.autograd.grad(
        energies.sum(), vectors, create_graph=create_graph
    )
    return fold(energies, gradients, graph), others


def energies_by_level(
    results: dict[str, torch.Tensor], graph: EdgeGraph, levels: Levels
) -> torch.Tensor:
    """Energy of each atom at its structure's level, [n_atoms] float64."""
    each = [results[name].to(torch.float64) for name in levels.names]
    index = levels.of_structures[graph.structures]
    return torch.cat(each, dim=1).gather(1, index[:, None])[:, 0]


def fold(
    energies: torch.Tensor, edge_gradients: torch.Tensor, graph: EdgeGraph
) -> Labels:
    """Labels from energies [n_structures] and the gradient with respect to edges."""
    n_atoms = graph.species.shape[0]
    return Labels(
        energies,
        fold_forces(edge_gradients, graph.centers, graph.neighbors, n_atoms),
        fold_strain_gradients(
            edge_gradients,
            graph.edge_vectors,
            graph.structures[graph.centers],
            energies.shape[0],
        ),
    )


def energy_scales(potential: Potential, levels: Levels) -> torch.Tensor:
    """Scale [eV] of each structure's energy, [n_structures]."""
    scales = [
        potential.scales[potential.target_names.index(name)][0, 0]
        for name in levels.names
    ]
    return torch.stack(scales)[levels.of_structures]


def scaled_targets(
    potential: Potential, batch: Batch, names: list[str] | None = None
) -> Labels:
    """What the raw predictions should be; ``names`` are the energies by level."""
    graph, levels = batch.graph, Levels(names or [ENERGY], batch.levels)
    indices = [potential.target_names.index(name) for name in levels.names]
    compositions = torch.stack([potential.compositions[i][:, 0] for i in indices])
    composition = compositions[batch.levels[graph.structures], graph.species]
    targets = Labels(
        batch.energies - sum_by_structure(composition, graph),
        batch.forces,
        batch.strain_gradients,
    )
    if potential.zbl is not None:
        targets = Labels(
            *(a - b for a, b in zip(targets, _zbl(potential, graph), strict=True))
        )
    return times(targets, 1 / energy_scales(potential, levels), graph)


def times(labels: Labels, factors: torch.Tensor, graph: EdgeGraph) -> Labels:
    """Labels times a factor of each structure, [n_structures]."""
    return Labels(
        labels.energies * factors,
        labels.forces * factors[graph.structures][:, None],
        labels.strain_gradients * factors[:, None, None],
    )


def _zbl(potential: Potential, graph: EdgeGraph) -> Labels:
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    graph = graph._replace(edge_vectors=vectors)
    with torch.enable_grad():  # validation turns it off
        energies = sum_by_structure(potential.zbl(graph), graph)
        (gradients,) = torch.autograd.grad(energies.sum(), vectors)
    return fold(
        energies.detach(), gradients, graph._replace(edge_vectors=vectors.detach())
    )


def sum_by_structure(atomic: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
    """Values of the atoms [n_atoms] summed by structure, [n_structures]."""
    total = atomic.new_zeros(graph.charges.shape[0])
    return total.index_add(0, graph.structures, atomic)


def loss_terms(
    predicted: Labels,
    targets: Labels,
    n_atoms: torch.Tensor,
    options: LossOptions,
    counts: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Each term times its weight; a term without any known target is left out.

    Args:
        predicted: by the network.
        targets: true.
        n_atoms: [n_structures].
        options: of the loss.
        counts: [3] what the sums of energies, forces and strain gradients are divided
            by, in place of the number of known ones; see :func:`known_counts`.
    """
    residuals = per_atom_residuals(predicted, targets, n_atoms)
    terms = {}
    for i, (name, term) in enumerate(
        zip(("energy", "forces", "stress"), options.terms, strict=True)
    ):
        count = None if counts is None else counts[i]
        value = term_value(residuals[i], targets[i], term, count)
        if value is not None:
            terms[name] = value
    return terms


def known_counts(targets: Labels) -> torch.Tensor:
    """Numbers of known energies, force components and strain components, [3] float64.

    Averaged over processes that share a step and given to :func:`loss_terms`, they make
    the mean of the processes' gradients that of one process with all structures.
    """
    return torch.stack([(~torch.isnan(target)).sum() for target in targets]).double()


def per_atom_residuals(
    predicted: Labels, targets: Labels, n_atoms: torch.Tensor
) -> Labels:
    """Predicted minus target; energies and strain gradients divided by n_atoms."""
    return Labels(
        (predicted.energies - targets.energies) / n_atoms,
        predicted.forces - targets.forces,
        (predicted.strain_gradients - targets.strain_gradients)
        / n_atoms[:, None, None],
    )


def term_value(
    residuals: torch.Tensor,
    targets: torch.Tensor,
    term: LossTerm,
    count: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Weighted mean over the residuals of known targets; a NaN prediction shows."""
    known = ~torch.isnan(targets)
    if term.weight == 0 or not known.any():
        return None
    residuals = residuals[known]
    if term.kind == "mse":
        losses = residuals.square()
    elif term.kind == "mae":
        losses = residuals.abs()
    else:
        losses = torch.nn.functional.huber_loss(
            residuals, torch.zeros_like(residuals), reduction="none", delta=term.delta
        )
    loss = losses.mean() if count is None else losses.sum() / count
    return term.weight * loss

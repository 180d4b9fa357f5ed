"""Predictions, scaled targets and the loss (pet-architecture, section 10.3).

Everything is in units of the energy scale: predictions are raw network output, targets
have their composition and ZBL subtracted in float64 and are divided by the scale.
"""

from typing import NamedTuple

import torch

from petmad.data import Batch
from petmad.model import EdgeGraph, Potential
from petmad.model.folds import fold_forces, fold_strain_gradients

from .options import LossOptions, LossTerm


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
) -> tuple[Labels, dict[str, torch.Tensor]]:
    """:func:`predict`, and other outputs per atom from the same evaluation."""
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    graph = graph._replace(edge_vectors=vectors)
    results = potential(graph, [ENERGY, *outputs], raw)
    energies = _sum_by_structure(results[ENERGY][:, 0].to(torch.float64), graph)
    (gradients,) = torch.autograd.grad(
        energies.sum(), vectors, create_graph=create_graph
    )
    others = {name: results[name] for name in outputs}
    return fold(energies, gradients, graph), others


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


def scaled_targets(potential: Potential, batch: Batch) -> Labels:
    """What the raw predictions should be."""
    index = potential.target_names.index(ENERGY)
    scale = potential.scales[index][0, 0]
    graph = batch.graph
    composition = potential.compositions[index][graph.species, 0]
    targets = Labels(
        batch.energies - _sum_by_structure(composition, graph),
        batch.forces,
        batch.strain_gradients,
    )
    if potential.zbl is not None:
        targets = Labels(
            *(a - b for a, b in zip(targets, _zbl(potential, graph), strict=True))
        )
    return Labels(*(target / scale for target in targets))


def _zbl(potential: Potential, graph: EdgeGraph) -> Labels:
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    graph = graph._replace(edge_vectors=vectors)
    with torch.enable_grad():  # validation turns it off
        energies = _sum_by_structure(potential.zbl(graph), graph)
        (gradients,) = torch.autograd.grad(energies.sum(), vectors)
    return fold(
        energies.detach(), gradients, graph._replace(edge_vectors=vectors.detach())
    )


def _sum_by_structure(atomic: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
    total = atomic.new_zeros(graph.charges.shape[0])
    return total.index_add(0, graph.structures, atomic)


def loss_terms(
    predicted: Labels, targets: Labels, n_atoms: torch.Tensor, options: LossOptions
) -> dict[str, torch.Tensor]:
    """Each term times its weight; a term without any known target is left out."""
    residuals = per_atom_residuals(predicted, targets, n_atoms)
    terms = {
        "energy": term_value(residuals.energies, targets.energies, options.energy),
        "forces": term_value(residuals.forces, targets.forces, options.forces),
        "stress": term_value(
            residuals.strain_gradients, targets.strain_gradients, options.stress
        ),
    }
    return {name: term for name, term in terms.items() if term is not None}


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
    residuals: torch.Tensor, targets: torch.Tensor, term: LossTerm
) -> torch.Tensor | None:
    """Weighted mean over the residuals of known targets; a NaN prediction shows."""
    known = ~torch.isnan(targets)
    if term.weight == 0 or not known.any():
        return None
    residuals = residuals[known]
    if term.kind == "mse":
        loss = residuals.square().mean()
    elif term.kind == "mae":
        loss = residuals.abs().mean()
    else:
        loss = torch.nn.functional.huber_loss(
            residuals, torch.zeros_like(residuals), delta=term.delta
        )
    return term.weight * loss

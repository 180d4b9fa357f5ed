"""Forces and strain gradients are the derivatives of the energy, whatever is moved."""

import numpy as np
import pytest
import torch
from finite_differences import assert_derivative
from graphs import answer, make_graph
from kept_edges import bisect_change
from structures import Structure, chain, ethanol, random_structure, slab, triclinic
from variants import VARIANTS, make_potential

from petmad.model import Potential


FORCES = 1e-7
"""Relative to the largest force; float64 with swept steps reaches 1e-10."""
STRAIN = 1e-6
"""Relative to the largest component of the strain gradient; 1e-10 is reached."""


def energy_of(model: Potential, structure: Structure) -> float:
    return float(answer(model, structure).energy[0])


def check_forces(model: Potential, structure: Structure, moves: np.ndarray) -> None:
    """The energy's slope along each displacement field, [n_moves, n_atoms, 3]."""
    forces = answer(model, structure).forces
    for k, move in enumerate(moves):

        def energy_along(t: float, move: np.ndarray = move) -> float:
            moved = structure.changed(positions=structure.positions + t * move)
            return energy_of(model, moved)

        slope = -float((forces * move).sum())
        scale = float(np.abs(forces).max())
        assert_derivative(energy_along, slope, scale, FORCES, f"move {k}")


def check_strain(model: Potential, structure: Structure, strains: np.ndarray) -> None:
    """The energy's slope along each strain, [n_strains, 3, 3]."""
    gradient = answer(model, structure).strain_gradients[0]
    for strain in strains:

        def energy_along(t: float, strain: np.ndarray = strain) -> float:
            return energy_of(model, structure.strained(t * strain))

        slope, scale = float((gradient * strain).sum()), float(np.abs(gradient).max())
        assert_derivative(energy_along, slope, scale, STRAIN, f"strain {strain}")


def random_moves(structure: Structure, n_moves: int, seed: int = 0) -> np.ndarray:
    """[n_moves, n_atoms, 3] of unit length."""
    moves = np.random.default_rng(seed).normal(size=(n_moves, len(structure), 3))
    return moves / np.linalg.norm(moves, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("llpr", "heads")])
def test_forces_and_strain_of_every_variant(variant):
    structure = random_structure(11, 5).changed(charge=1, spin_multiplicity=2)
    model = make_potential(variant)
    check_forces(model, structure, random_moves(structure, 2))
    strains = np.random.default_rng(1).normal(size=(1, 3, 3))
    check_strain(model, structure, strains)


@pytest.mark.parametrize("variant", ["modern", "adaptive_solver"])
@pytest.mark.parametrize("make", [ethanol, slab, chain, triclinic])
def test_forces_of_every_boundary_condition(make, variant):
    structure = make()
    check_forces(make_potential(variant), structure, random_moves(structure, 2, 3))


def test_single_components():
    """One atom along one axis at a time, and every component of the strain."""
    structure, model = triclinic(), make_potential("adaptive_solver")
    n_moves = 3 * len(structure)
    check_forces(model, structure, np.eye(n_moves).reshape(n_moves, -1, 3))
    check_strain(model, structure, np.eye(9).reshape(9, 3, 3))


def test_strain_gradient_is_not_symmetric():
    """PET is not rotation invariant: a rotation by strain costs energy."""
    gradient = answer(make_potential("modern"), triclinic()).strain_gradients[0]
    assert np.abs(gradient - gradient.T).max() > 1e-3 * np.abs(gradient).max()


@pytest.mark.parametrize("variant", ["adaptive_solver", "adaptive_grid"])
def test_forces_where_the_kept_graph_changes(variant):
    """An edge appears or vanishes within 1e-9 of t; the steps reach over it."""
    model, structure = make_potential(variant), random_structure(5, 6)
    move = random_moves(structure, 1, 7)[0]

    def at(t: float) -> Structure:
        return structure.changed(positions=structure.positions + t * move)

    for t in bisect_change(model, at, 0.0, 0.4):
        check_forces(model, at(t), move[None])


def two_components() -> Structure:
    """A dense cluster with small adaptive cutoffs, and two atoms far apart."""
    spots = np.array([[i, j, k] for i in range(2) for j in range(3) for k in range(3)])
    cluster = 1.15 * spots + 0.05 * np.random.default_rng(0).normal(size=(18, 3))
    pair = [[4.4, 1.1, 1.2], [8.4, 1.3, 1.0]]
    return Structure([6] * len(cluster) + [8, 1], np.vstack([cluster, pair]))


@pytest.mark.parametrize("variant", ["adaptive_solver", "adaptive_grid"])
def test_forces_on_atoms_outside_the_kept_graph(variant):
    """No kept edge joins cluster and pair, yet the pair counts the cluster."""
    model, structure = make_potential(variant), two_components()
    graph = make_graph([structure], model.config.cutoff)
    kept = model.network(graph).kept
    in_pair = graph.centers[kept] >= 18
    assert torch.equal(in_pair, graph.neighbors[kept] >= 18), "they must not be joined"
    assert in_pair.sum() == 2
    forces = answer(model, structure).forces
    across = np.abs(forces[:18].sum(axis=0)).max()
    assert across > 0.1 * np.abs(forces).max(), "the cluster must feel the pair"
    shift = np.zeros((1, 20, 3))
    shift[0, 18:, 0] = 1.0
    check_forces(model, structure, np.vstack([shift, random_moves(structure, 1)]))


@pytest.mark.parametrize("variant", ["modern", "adaptive_solver", "classic", "zbl"])
def test_parameter_gradients_of_forces(variant):
    """Double backward: d/dw of mean(F²) for whole parameters, by finite differences."""
    structure, model = random_structure(9, 4), make_potential(variant)
    graph = make_graph([structure], model.config.cutoff)
    rng = np.random.default_rng(4)

    def mean_square() -> torch.Tensor:
        energy = model(graph, ["energy"], raw=True)["energy"].sum()
        (gradients,) = torch.autograd.grad(
            energy, graph.edge_vectors, create_graph=True
        )
        return (gradients**2).mean()

    loss = mean_square()
    names, parameters = zip(
        *((n, p) for n, p in model.network.named_parameters() if p.dim() == 2),
        strict=True,
    )
    gradients = torch.autograd.grad(loss, parameters)
    scale = max(float(g.norm()) for g in gradients)
    chosen = rng.permutation(len(names))[:8]
    for k in chosen:
        parameter, start = parameters[k], parameters[k].detach().clone()
        direction = torch.from_numpy(rng.normal(size=tuple(start.shape)))
        direction /= direction.norm()
        slope = float((gradients[k] * direction).sum())

        def loss_along(t: float, p=parameter, start=start, move=direction) -> float:
            with torch.no_grad():
                p.copy_(start + t * move)
            return float(mean_square().detach())

        assert_derivative(loss_along, slope, scale, 1e-7, names[k])
        with torch.no_grad():
            parameter.copy_(start)

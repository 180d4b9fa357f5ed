"""How far an atom feels: the reach a model declares is met and not exceeded.

Ghost atoms and messages between ranks are built on these numbers.
"""

import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import Structure
from variants import make_potential

from petmad.model.folds import fold_forces


SPACING = 4.0
"""Å; below every cutoff here, and twice of it above: a hop is one atom."""


def chain_of_atoms(n_atoms: int) -> Structure:
    """Atoms along a slightly bent line, each seeing its two neighbors alone."""
    positions = np.zeros((n_atoms, 3))
    positions[:, 0] = SPACING * np.arange(n_atoms)
    positions[:, 1] = 0.3 * np.sin(np.arange(n_atoms))
    return Structure(([8, 6, 14, 1] * n_atoms)[:n_atoms], positions)


@pytest.mark.parametrize(
    ("variant", "layers"),
    [
        ("modern", 1),
        ("modern", 2),
        ("modern", 3),
        ("residual_preln", 2),
        ("classic", 1),
        ("classic", 3),
        ("adaptive_solver", 1),
        ("adaptive_solver", 2),
        ("adaptive_grid", 2),
    ],
)
def test_reach_is_exact_along_a_chain(variant, layers):
    """The first atom feels exactly ``reach_hops`` atoms, one more if adaptive."""
    model = make_potential(variant, num_gnn_layers=layers, cutoff_width=1.5)
    graph = make_graph([chain_of_atoms(9)], model.config.cutoff)
    assert len(graph.centers) == 16
    first = model(graph, ["energy"])["energy"][0, 0]
    (gradients,) = torch.autograd.grad(first, graph.edge_vectors)
    felt = fold_forces(gradients, graph.centers, graph.neighbors, 9).abs().amax(dim=1)
    last = int(torch.nonzero(felt).max())
    assert last == model.config.reach_hops + model.config.is_adaptive
    assert felt[last] > 1e-12
    assert last * SPACING <= model.config.reach


def test_nothing_changes_beyond_the_reach():
    """Bit by bit: an atom just outside of the declared reach, moved or replaced."""
    model = make_potential("adaptive_solver")
    structure = chain_of_atoms(9)
    beyond = model.config.reach_hops + 2
    moved = structure.changed(positions=structure.positions.copy())
    moved.positions[beyond:, 1] += 0.2
    moved.numbers[beyond:] = 6
    energies = []
    for s in (structure, moved):
        graph = make_graph([s], model.config.cutoff)
        energies.append(model(graph, ["energy"])["energy"][:, 0].detach())
    assert energies[0][0] == energies[1][0]
    assert energies[0][3] != energies[1][3]

"""Owned atoms among recomputed ghosts: the same numbers, and no row too many."""

import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import Structure, triclinic
from variants import VARIANTS, make_potential

from petmad.model import constants
from petmad.model.rings import find_rings


TOLERANCE = 1e-13  # relative; the same rows in another order

# Twelve atoms in a line, 4 Å apart: each sees its two neighbors and no more. The kept
# edges come in pairs i -> i + 1, i + 1 -> i.
LINE = np.stack([4.0 * np.arange(12), 0.3 * np.sin(np.arange(12)), np.zeros(12)], 1)


def line_of_atoms():
    return Structure(([8, 6, 14, 1] * 3), LINE)


def find_rings_of_line(n_owned, n_rings):
    centers = torch.repeat_interleave(torch.arange(12), 2)[1:-1]
    neighbors = torch.stack([torch.arange(11) + 1, torch.arange(11)], 1).flatten()
    # 0 -> 1, 1 -> 0, 1 -> 2, 2 -> 1, ...: each edge's partner is beside it
    reverse = torch.arange(22) ^ 1
    return find_rings(centers, neighbors, reverse, n_owned, 12, n_rings)


def test_rings_of_a_line_by_hand():
    rings = find_rings_of_line(2, 3)
    assert rings.rings.tolist() == [0, 0, 1, 2, 3] + [-1] * 7
    assert rings.nodes.tolist() == [0, 1, 2, 3]
    assert rings.n_nodes == [2, 3, 4]
    assert rings.n_edges == [3, 5, 7]
    assert rings.edges.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert rings.reverse_edges.tolist() == [1, 0, 3, 2, 5, 4, -1]


def test_nothing_owned_is_nothing_to_do():
    rings = find_rings_of_line(0, 3)
    assert rings.n_nodes == [0, 0, 0]
    assert rings.n_edges == [0, 0, 0]
    assert (rings.rings == -1).all()


def owned_only(graph, n_owned):
    """The first atoms of a graph; the others are ghosts to recompute."""
    return graph._replace(
        structures=graph.structures[:n_owned], halo=constants.RECOMPUTE
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_owned_atoms_do_not_notice(variant):
    """Energies, their gradients and cutoffs; with every edge of the others at hand."""
    model = make_potential(variant)
    whole = make_graph([triclinic()], model.config.cutoff)
    part = owned_only(whole, 2)
    found = model(part, ["energy", "cutoff_stats"])
    wanted = model(whole, ["energy", "cutoff_stats"])
    for name in ("energy", "cutoff_stats"):
        np.testing.assert_allclose(
            found[name].detach(), wanted[name][:2].detach(), rtol=TOLERANCE
        )
    gradients = [
        torch.autograd.grad(answer["energy"][:2].sum(), graph.edge_vectors)[0]
        for answer, graph in ((found, part), (wanted, whole))
    ]
    scale = gradients[1].abs().max()
    assert (gradients[0] - gradients[1]).abs().max() <= TOLERANCE * scale


@pytest.mark.parametrize(
    ("variant", "n_layers", "n_nodes"),
    [("modern", 3, [4, 3, 2]), ("classic", 3, [3, 2, 1]), ("adaptive_grid", 1, [2])],
)
def test_each_layer_works_on_one_ring_less(variant, n_layers, n_nodes):
    """Of the line with its first atom owned; an atom's edges are one or two."""
    model = make_potential(variant, num_gnn_layers=n_layers)
    graph = make_graph([line_of_atoms()], model.config.cutoff)
    sizes = model(owned_only(graph, 1), ["layer_sizes"])["layer_sizes"]
    assert sizes.tolist() == [[n, 2 * n - 1] for n in n_nodes]


def test_all_layers_work_on_all_without_ghosts():
    model = make_potential("modern")
    graph = make_graph([line_of_atoms()], model.config.cutoff)
    answer = model(graph, ["layer_sizes", "rings"])
    assert answer["layer_sizes"].tolist() == [[12, 22]] * 2
    assert answer["rings"].tolist() == [0] * 12

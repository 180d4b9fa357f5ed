"""The core's neighbor list = the loop over pairs and shifts, on random structures."""

import numpy as np
import pytest
import torch
from graphs import brute_force_edges
from structures import Structure

from petmad.neighbors import neighbor_list


def random_input(seed: int, on_grid: bool) -> tuple[Structure, float]:
    """Any periodicity, skew and handedness; atoms far outside their cell.

    On a grid, positions, cell and cutoff are whole numbers: many neighbors sit exactly
    on the cutoff and many atoms on the cell's faces, or on top of each other.
    """
    rng = np.random.default_rng(seed)
    n_atoms = int(rng.integers(1, 12))
    volume = 0.0
    while volume < 1.0:
        cell = np.diag(rng.uniform(1.2, 8.0, 3)) + rng.uniform(-3, 3, (3, 3))
        cell = np.round(cell) if on_grid else cell
        volume = abs(np.linalg.det(cell))
    far = rng.integers(-3, 4, (n_atoms, 3)) @ cell
    positions = rng.random((n_atoms, 3)) @ cell + far + rng.choice([0.0, 40.0])
    cutoff = rng.uniform(0.8, 5.5)
    if on_grid:
        positions, cutoff = np.round(positions), np.ceil(cutoff)
    pbc = rng.random(3) < 0.65
    return Structure(rng.choice([1, 8], n_atoms), positions, cell, pbc), float(cutoff)


@pytest.mark.parametrize("on_grid", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_list_equals_brute_force(seed, on_grid):
    structure, cutoff = random_input(seed, on_grid)
    slow = brute_force_edges(structure, cutoff)
    fast = neighbor_list(
        torch.from_numpy(structure.positions),
        torch.from_numpy(structure.cell),
        torch.from_numpy(structure.pbc),
        cutoff,
    )
    ours = np.column_stack([fast.centers, fast.neighbors, fast.cell_shifts])
    expected = np.column_stack([slow.centers, slow.neighbors, slow.shifts])
    assert len(ours) == len(expected)
    assert set(map(tuple, ours.tolist())) == set(map(tuple, expected.tolist()))
    assert np.all(np.diff(ours[:, 0]) >= 0)
    back = ours[fast.reverse_edges.numpy()]
    np.testing.assert_array_equal(back[:, :2], ours[:, 1::-1])
    np.testing.assert_array_equal(back[:, 2:], -ours[:, 2:])


def test_random_structures_are_worth_their_while():
    """Most have edges, some atoms see their images, some edges sit on the cutoff."""
    n_edges, n_self, n_rim = [], 0, 0
    for on_grid in (False, True):
        for seed in range(30):
            structure, cutoff = random_input(seed, on_grid)
            edges = brute_force_edges(structure, cutoff)
            n_edges.append(len(edges.centers))
            n_self += int((edges.centers == edges.neighbors).sum())
            n_rim += int((np.linalg.norm(edges.vectors, axis=1) == cutoff).sum())
    assert np.count_nonzero(n_edges) > 40
    assert max(n_edges) > 1000
    assert n_self > 100
    assert n_rim > 100

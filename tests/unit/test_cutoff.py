"""Cutoff functions and adaptive cutoffs against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from reference_pairs import grid_cutoff, solver_cutoff

from petmad.model import PETConfig
from petmad.model.cutoff import (
    adaptive_cutoffs_grid,
    adaptive_cutoffs_solver,
    bump,
    bump_slope,
    cosine,
    cutoff_weights,
    grid_probes,
)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bump_by_hand():
    """Cotangents in the taper: 1 at x = ¼, 0 at ½, -1 at ¾."""
    distances = tensor(3.0, 4.0, 4.125, 4.25, 4.375, 4.5, 6.0)
    values = bump(distances, torch.full_like(distances, 4.5), 0.5)
    quarter = 0.5 * (1.0 + math.tanh(1.0))
    expected = [1.0, 1.0, quarter, 0.5, 1.0 - quarter, 0.0, 0.0]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_bump_is_exactly_one_and_zero_outside():
    distances = tensor(0.0, 4.0, 4.5, 9.0)
    values = bump(distances, torch.full_like(distances, 4.5), 0.5)
    assert values.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_cosine_by_hand():
    distances = tensor(3.0, 4.0, 4.125, 4.25, 4.375, 4.5, 6.0)
    values = cosine(distances, torch.full_like(distances, 4.5), 0.5)
    high, low = 0.5 * (1 + math.sqrt(0.5)), 0.5 * (1 - math.sqrt(0.5))
    expected = [1.0, 1.0, high, 0.5, low, 0.0, 0.0]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


def test_weights_choose_the_function():
    r, cutoff = tensor(4.125), tensor(4.5)
    assert cutoff_weights(r, cutoff, 0.5, "Bump") == bump(r, cutoff, 0.5)
    assert cutoff_weights(r, cutoff, 0.5, "Cosine") == cosine(r, cutoff, 0.5)
    assert bump(r, cutoff, 0.5) != cosine(r, cutoff, 0.5)


@pytest.mark.parametrize("function", [bump, cosine])
def test_gradients_vanish_outside_and_stay_finite_at_the_ends(function):
    distances = tensor(1.0, 4.0, 4.5, 5.0).requires_grad_()
    function(distances, tensor(4.5, 4.5, 4.5, 4.5), 0.5).sum().backward()
    np.testing.assert_allclose(distances.grad, 0.0, atol=1e-14)


def test_bump_slope_is_the_derivative_in_the_cutoff():
    distances = torch.linspace(3.9, 4.6, 71, dtype=torch.float64)
    cutoffs = torch.full_like(distances, 4.5).requires_grad_()
    (expected,) = torch.autograd.grad(bump(distances, cutoffs, 0.5).sum(), cutoffs)
    slopes = bump_slope(distances, cutoffs.detach(), 0.5)
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-12)
    assert slopes.max() > 1.0
    assert bump_slope(tensor(3.9, 4.6), tensor(4.5, 4.5), 0.5).tolist() == [0.0, 0.0]


def test_bump_slope_by_hand():
    """In the middle of the taper: (π/2w)·sech²(0)/sin²(π/2) = π/2w."""
    assert bump_slope(tensor(4.25), tensor(4.5), 0.5).item() == pytest.approx(math.pi)


def environment(seed: int, n_edges: int) -> torch.Tensor:
    """Distances of neighbors at constant density within 5 Å."""
    radii = np.random.default_rng(seed).random(n_edges) ** (1 / 3)
    return torch.from_numpy(5.0 * np.maximum(radii, 0.2))


def config(method: str, n_neighbors: int = 8, width: float = 1.0) -> PETConfig:
    return PETConfig(
        cutoff=5.0,
        num_neighbors_adaptive=n_neighbors,
        adaptive_cutoff_method=method,
        cutoff_width_adaptive=width,
    )


def solve(distances: torch.Tensor, n_neighbors: float = 8.0) -> torch.Tensor:
    centers = torch.zeros(len(distances), dtype=torch.int64)
    return adaptive_cutoffs_solver(distances, centers, 1, 5.0, n_neighbors, 1.0)[0]


@pytest.mark.parametrize("n_edges", [1, 5, 20, 60, 200])
@pytest.mark.parametrize("n_neighbors", [3, 8, 16])
def test_solver_finds_the_root(n_edges, n_neighbors):
    """Counted at the result: neighbors plus cubic baseline = the number aimed at."""
    distances = environment(n_edges, n_edges)
    radius = solve(distances, n_neighbors)
    count = bump(distances, radius.expand(n_edges), 1.0).sum()
    total = count + n_neighbors * (radius / 5.0) ** 3
    assert total.item() == pytest.approx(n_neighbors, abs=1e-9)


@pytest.mark.parametrize("n_edges", [5, 20, 60])
def test_solver_equals_bisection_with_gradients(n_edges):
    distances = environment(100 + n_edges, n_edges).requires_grad_()
    ours = solve(distances)
    theirs = solver_cutoff(distances, config("solver"))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-10)
    (gradient,) = torch.autograd.grad(ours, distances)
    (expected,) = torch.autograd.grad(theirs, distances)
    assert expected.abs().max() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)


def test_solver_by_hand():
    """No neighbor: only the baseline counts, its root is the cutoff itself.

    Crowded below the smallest radius: clamped at a sixteenth of the cutoff.
    """
    assert solve(torch.zeros(0, dtype=torch.float64)).item() == pytest.approx(5.0)
    assert solve(torch.full((500,), 1e-3, dtype=torch.float64)).item() == 5.0 / 16


def test_solver_treats_centers_apart():
    near, far = environment(1, 50), environment(2, 15)
    both = torch.cat([near, far])
    centers = torch.tensor([0] * 50 + [2] * 15)
    radii = adaptive_cutoffs_solver(both, centers, 3, 5.0, 8.0, 1.0)
    expected = [solve(near), solve(torch.zeros(0, dtype=torch.float64)), solve(far)]
    np.testing.assert_allclose(radii, expected, rtol=0, atol=1e-12)


def test_more_neighbors_shrink_the_cutoff():
    radii = [solve(environment(7, n)).item() for n in (5, 20, 80, 320)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] > 2 * radii[-1]


@pytest.mark.parametrize(
    ("cutoff", "width", "n_probes"),
    [(7.5, 0.5, 56), (8.0, 0.5, 60), (8.5, 0.5, 64), (9.0, 0.5, 68), (10.0, 0.5, 76)],
)
def test_number_of_grid_probes_of_published_models(cutoff, width, n_probes):
    probes = grid_probes(cutoff, width)
    assert len(probes) == n_probes
    assert probes[0] == 0.5
    assert probes[-1] == cutoff - width / 4


def test_grid_probes_of_other_sizes():
    assert grid_probes(2.0, 8.0).tolist() == [0.5]
    assert grid_probes(1.0, 0.8).tolist() == [0.5, 0.7, 0.9]
    assert grid_probes(0.4, 0.5).tolist() == [0.5]


@pytest.mark.parametrize("width", [0.5, 1.0, 30.0])
@pytest.mark.parametrize("n_edges", [0, 3, 20, 100])
def test_grid_equals_loops_over_probes(n_edges, width):
    """A width of 30 Å leaves one probe."""
    distances = environment(n_edges, n_edges).requires_grad_()
    centers = torch.zeros(n_edges, dtype=torch.int64)
    probes = grid_probes(5.0, width)
    (ours,) = adaptive_cutoffs_grid(distances, centers, 1, probes, 8.0, width)
    theirs = grid_cutoff(distances, config("grid", width=width))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    if n_edges > 0 and len(probes) > 1:
        (gradient,) = torch.autograd.grad(ours, distances)
        (expected,) = torch.autograd.grad(theirs, distances)
        assert expected.abs().max() > 1e-6
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10)


def test_grid_of_one_center_ignores_the_batch():
    """Upstream shares one maximum over the batch; ours must not."""
    crowded, lonely = environment(3, 300), environment(4, 6)
    probes = grid_probes(5.0, 0.5)
    both = torch.cat([crowded, lonely])
    centers = torch.tensor([0] * 300 + [1] * 6)
    together = adaptive_cutoffs_grid(both, centers, 2, probes, 8.0, 0.5)
    alone = adaptive_cutoffs_grid(lonely, torch.zeros(6).long(), 1, probes, 8.0, 0.5)
    assert together[1].item() == pytest.approx(alone[0].item(), abs=1e-13)

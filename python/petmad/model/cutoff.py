"""Cutoff functions and adaptive cutoffs (per-atom radii that aim at a neighbor count).

Everything here runs in float64 and is differentiable with respect to the edge vectors:
an atom outside the kept graph still feels a force through the neighbor counts.
"""

import math
from typing import Tuple

import torch
from torch import nn

from . import constants
from .config import PETConfig


def bump(distances: torch.Tensor, cutoffs: torch.Tensor, width: float) -> torch.Tensor:
    """Smooth step ``½[1 + tanh(cot(πx))]``: from 1 at ``cutoff - width`` to 0."""
    x = (distances - (cutoffs - width)) / width
    x = torch.clamp(x, constants.TAPER_EPSILON, 1.0 - constants.TAPER_EPSILON)
    return 0.5 * (1.0 + torch.tanh(1.0 / torch.tan(math.pi * x)))


def bump_slope(
    distances: torch.Tensor, cutoffs: torch.Tensor, width: float
) -> torch.Tensor:
    """Derivative of :func:`bump` in the cutoff [1/Å]; 0 outside the taper."""
    x = (distances - (cutoffs - width)) / width
    inside = (x > 0.0) & (x < 1.0)
    x = torch.clamp(x, constants.TAPER_EPSILON, 1.0 - constants.TAPER_EPSILON)
    t = torch.tanh(1.0 / torch.tan(math.pi * x))
    slope = (0.5 * math.pi / width) * (1.0 - t * t) / torch.sin(math.pi * x) ** 2
    return torch.where(inside, slope, torch.zeros_like(slope))


def cosine(
    distances: torch.Tensor, cutoffs: torch.Tensor, width: float
) -> torch.Tensor:
    """Smooth step ``½[1 + cos(πx)]``."""
    x = torch.clamp((distances - (cutoffs - width)) / width, 0.0, 1.0)
    return 0.5 * (1.0 + torch.cos(math.pi * x))


def cutoff_weights(
    distances: torch.Tensor, cutoffs: torch.Tensor, width: float, function: str
) -> torch.Tensor:
    """Cutoff factor f of each edge, [n_edges], for ``function`` Bump or Cosine."""
    if function == "Bump":
        return bump(distances, cutoffs, width)
    return cosine(distances, cutoffs, width)


def _sum_by_center(
    values: torch.Tensor, centers: torch.Tensor, n_centers: int
) -> torch.Tensor:
    return torch.zeros(n_centers, dtype=values.dtype, device=values.device).index_add(
        0, centers, values
    )


def _count_and_slope(
    distances: torch.Tensor,
    centers: torch.Tensor,
    radii: torch.Tensor,
    cutoff: float,
    n_neighbors: float,
    width: float,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Soft neighbor count of each center with its baseline, and the slope of both."""
    edge_radii = radii[centers]
    n_centers = radii.shape[0]
    count = _sum_by_center(bump(distances, edge_radii, width), centers, n_centers)
    slope = _sum_by_center(bump_slope(distances, edge_radii, width), centers, n_centers)
    count = count + n_neighbors * (radii / cutoff) ** 3
    slope = slope + 3.0 * n_neighbors * (radii / cutoff) ** 2 / cutoff
    return count, slope


def adaptive_cutoffs_solver(
    distances: torch.Tensor,
    centers: torch.Tensor,
    n_centers: int,
    cutoff: float,
    n_neighbors: float,
    width: float,
) -> torch.Tensor:
    """Radius at which the soft count of neighbors reaches ``n_neighbors``, per center.

    A bracketed Newton search of ten steps on detached distances, then one
    differentiable Newton step, which carries the gradient of the implicit function
    theorem. Its derivative is exact to first order only: do not take Hessians with
    respect to positions through it.

    Args:
        distances: [n_edges] Å, all edges within ``cutoff``.
        centers: [n_edges] index of the center of each edge.
        n_centers: number of centers.
        cutoff: upper bound of the radius [Å].
        n_neighbors: count aimed at.
        width: taper of the counting bump [Å].

    Returns:
        [n_centers] Å, between ``cutoff / 16`` and ``cutoff``.
    """
    fixed = distances.detach()
    low = torch.zeros(n_centers, dtype=distances.dtype, device=distances.device)
    high = torch.full_like(low, cutoff)
    radii = torch.full_like(low, 0.5 * cutoff)
    for _ in range(constants.SOLVER_ITERATIONS):
        count, slope = _count_and_slope(
            fixed, centers, radii, cutoff, n_neighbors, width
        )
        excess = count - n_neighbors
        low = torch.where(excess <= 0.0, radii, low)
        high = torch.where(excess <= 0.0, high, radii)
        newton = radii - excess / torch.clamp(slope, min=constants.SLOPE_FLOOR)
        accept = (newton >= low) & (newton <= high)
        radii = torch.where(accept, newton, 0.5 * (low + high))
    _, slope = _count_and_slope(fixed, centers, radii, cutoff, n_neighbors, width)
    count = _sum_by_center(bump(distances, radii[centers], width), centers, n_centers)
    count = count + n_neighbors * (radii / cutoff) ** 3
    radii = radii - (count - n_neighbors) / torch.clamp(
        slope, min=constants.SLOPE_FLOOR
    )
    return torch.clamp(radii, cutoff / 16.0, cutoff)


def grid_probes(cutoff: float, width: float) -> torch.Tensor:
    """Probe radii of the grid method [Å]: steps of a quarter width below the cutoff."""
    step = width / 4.0
    n_probes = max(math.ceil((cutoff - constants.GRID_START) / step - 1e-9), 1)
    return constants.GRID_START + step * torch.arange(n_probes, dtype=torch.float64)


def adaptive_cutoffs_grid(
    distances: torch.Tensor,
    centers: torch.Tensor,
    n_centers: int,
    probes: torch.Tensor,
    n_neighbors: float,
    width: float,
) -> torch.Tensor:
    """Weighted mean of probe radii, peaked where the neighbor count fits; per center.

    Each center's weights are normalized by their own maximum, where upstream subtracts
    the maximum over the whole batch: the same number unless upstream's underflows, and
    then this one does not depend on what else is in the batch or on the rank.

    Args:
        distances: [n_edges] Å, all edges within the cutoff.
        centers: [n_edges] index of the center of each edge.
        n_centers: number of centers.
        probes: [n_probes] Å, from :func:`grid_probes`.
        n_neighbors: count aimed at.
        width: taper of the counting bump [Å].

    Returns:
        [n_centers] Å.
    """
    n_probes = probes.shape[0]
    counted = bump(distances[:, None], probes[None, :], width)
    counts = torch.zeros(
        n_centers, n_probes, dtype=distances.dtype, device=distances.device
    ).index_add(0, centers, counted)
    t = torch.linspace(
        0.0, 1.0, n_probes, dtype=distances.dtype, device=distances.device
    )
    excess = counts - n_neighbors + n_neighbors * t**3
    if n_probes == 1:
        spread = 0.5 * excess.abs() + constants.GRID_FLOOR
    else:
        first = excess[:, 1:2] - excess[:, 0:1]
        last = excess[:, n_probes - 1 :] - excess[:, n_probes - 2 : n_probes - 1]
        inner = 0.5 * (excess[:, 2:] - excess[:, : n_probes - 2])
        gradient = torch.cat([first, inner, last], dim=1)
        spread = torch.clamp(gradient.abs(), min=constants.GRID_FLOOR)
    weights = torch.softmax(-0.5 * (excess / spread) ** 2, dim=1)
    return (weights * probes[None, :]).sum(dim=1)


class OwnCutoffs(nn.Module):
    """Cutoff of each atom, fixed or adaptive; no weights, for an export to swap."""

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.width = config.cutoff_width_adaptive
        self.is_adaptive = config.is_adaptive
        self.n_neighbors = float(config.num_neighbors_adaptive or 0)
        self.use_solver = config.adaptive_cutoff_method == "solver"

    def forward(
        self, distances: torch.Tensor, centers: torch.Tensor, n_centers: int
    ) -> torch.Tensor:
        """[n_centers] Å from all raw edges; those beyond the cutoff are passed over."""
        if not self.is_adaptive:
            return torch.full([n_centers], self.cutoff, dtype=torch.float64).to(
                distances
            )
        inside = torch.nonzero(distances <= self.cutoff).squeeze(1)
        distances = distances[inside]
        centers = centers[inside]
        if self.use_solver:
            return adaptive_cutoffs_solver(
                distances,
                centers,
                n_centers,
                self.cutoff,
                self.n_neighbors,
                self.width,
            )
        return adaptive_cutoffs_grid(
            distances,
            centers,
            n_centers,
            grid_probes(self.cutoff, self.width).to(distances),
            self.n_neighbors,
            self.width,
        )

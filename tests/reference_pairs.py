"""The slow, obvious versions of what PET computes per pair: cutoffs and ZBL."""

import math

import torch

from petmad.model import PETConfig


def bump(r: torch.Tensor, cutoff: torch.Tensor, width: float) -> torch.Tensor:
    """½[1 + tanh(cot(πx))] inside the taper, 1 below and 0 above it."""
    x = torch.clamp((r - cutoff + width) / width, 1e-6, 1 - 1e-6)
    return 0.5 * (1 + torch.tanh(torch.cos(math.pi * x) / torch.sin(math.pi * x)))


def cosine(r: torch.Tensor, cutoff: torch.Tensor, width: float) -> torch.Tensor:
    """½[1 + cos(πx)] inside the taper, 1 below and 0 above it."""
    x = torch.clamp((r - cutoff + width) / width, 0.0, 1.0)
    return 0.5 * (1 + torch.cos(math.pi * x))


def solver_cutoff(distances: torch.Tensor, config: PETConfig) -> torch.Tensor:
    """Root of the soft count by plain bisection, then the implicit function's gradient.

    Where the definition counts with analytic slopes and ten Newton steps, this bisects
    sixty times and lets autograd find the slope: any converged root is the same number.
    """
    n, width = config.num_neighbors_adaptive, config.cutoff_width_adaptive
    rc = config.cutoff

    def excess(r: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        return bump(r, radius, width).sum() + n * (radius / rc) ** 3 - n

    fixed = distances.detach()
    low, high = 0.0, rc
    for _ in range(60):
        middle = 0.5 * (low + high)
        if excess(fixed, torch.tensor(middle, dtype=fixed.dtype)) <= 0:
            low = middle
        else:
            high = middle
    root = torch.tensor(0.5 * (low + high), dtype=fixed.dtype, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(excess(fixed, root), root)
    root = root.detach()
    step = excess(distances, root) / max(slope.item(), 1e-6)
    return torch.clamp(root - step, rc / 16, rc)


def grid_cutoff(distances: torch.Tensor, config: PETConfig) -> torch.Tensor:
    """Mean of the probe radii weighted by how well the count fits there."""
    n, width = config.num_neighbors_adaptive, config.cutoff_width_adaptive
    probes = []
    while 0.5 + len(probes) * width / 4 < config.cutoff - 1e-9:
        probes.append(0.5 + len(probes) * width / 4)
    last = len(probes) - 1
    excess = []
    for k, probe in enumerate(probes):
        radius = torch.tensor(probe, dtype=distances.dtype)
        count = bump(distances, radius, width).sum()
        excess.append(count - n + n * (k / last if last else 0.0) ** 3)
    logs = []
    for k, value in enumerate(excess):
        below, above = max(k - 1, 0), min(k + 1, last)
        slope = (excess[above] - excess[below]) / max(above - below, 1)
        spread = 0.5 * value.abs() + 1e-12
        if last > 0:
            spread = torch.clamp(slope.abs(), min=1e-12)
        logs.append(-0.5 * (value / spread) ** 2)
    shares = torch.exp(torch.stack(logs) - max(float(x.detach()) for x in logs))
    return (shares * torch.tensor(probes, dtype=shares.dtype)).sum() / shares.sum()


def zbl_pair(zi: int, zj: int, r: torch.Tensor, rc: float) -> torch.Tensor:
    """Screened nuclear repulsion [eV], switched off between 0 and rc as LAMMPS does."""
    single = torch.tensor([zi, zj], dtype=torch.float32)
    strength = float(torch.tensor(14.399645478425668) * single[0] * single[1])
    length = float(0.46850 / (single[0] ** 0.23 + single[1] ** 0.23))

    def repulsion(x: torch.Tensor) -> torch.Tensor:
        terms = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229))
        terms = (*terms, (0.18175, 3.19980))
        return strength / x * sum(c * torch.exp(-d * x / length) for c, d in terms)

    edge = torch.tensor(rc, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = repulsion(edge)
        (first,) = torch.autograd.grad(value, edge, create_graph=True)
        (second,) = torch.autograd.grad(first, edge)
    e0, e1, e2 = value.item(), first.item(), second.item()
    a = (-3 * e1 + rc * e2) / rc**2
    b = (2 * e1 - rc * e2) / rc**3
    c = -e0 + rc * e1 / 2 - rc**2 * e2 / 12
    return repulsion(r) + a * r**3 / 3 + b * r**4 / 4 + c

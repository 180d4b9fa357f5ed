"""Systems, models and work of the GPU benchmark; needs numpy and torch alone."""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch

from petmad.fast_network import make_fast
from petmad.model import PETConfig, Potential, TargetSpec


class EmulatedOperators:
    """``torch.ops.petmad`` with every operator emulated that has kernels for GPUs."""

    def __init__(self) -> None:
        self.others = torch.ops.petmad

    def __getattr__(self, name: str) -> Any:
        """The emulation of an operator, or the CPU's own."""
        emulated = getattr(torch.ops.petmad_cuda, name, None)
        return emulated or getattr(self.others, name)


class Size(NamedTuple):
    """A published size; d_node = 4 d_pet, d_feedforward = 2 d_pet, 8 heads."""

    d_pet: int
    n_gnn_layers: int
    n_attention_layers: int
    cutoff: float
    n_neighbors: int


SIZES = {
    "tiny": Size(32, 2, 1, 4.0, 6),  # of --quick alone
    "XS": Size(128, 2, 1, 7.5, 8),
    "S": Size(256, 3, 1, 8.0, 16),
    "M": Size(384, 3, 2, 8.5, 24),
}
ATOMIC_NUMBERS = [1, 6, 8]


class System(NamedTuple):
    """A periodic structure: copies of a cell, ``times`` along each lattice vector."""

    positions: np.ndarray  # [n_atoms, 3] Å
    cell: np.ndarray  # [3, 3] Å
    species: np.ndarray  # [n_atoms], index into ATOMIC_NUMBERS
    times: tuple[int, int, int] = (1, 1, 1)

    def first_cell(self) -> "System":
        """What it is copies of."""
        n_atoms = len(self.positions) // int(np.prod(self.times))
        cell = self.cell / np.array(self.times)[:, None]
        return System(self.positions[:n_atoms], cell, self.species[:n_atoms])

    def repeat(self, *times: int) -> "System":
        """Copies of this cell along each lattice vector."""
        shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1)
        shifts = shifts.reshape(-1, 1, 3) @ self.cell
        positions = (shifts + self.positions[None]).reshape(-1, 3)
        cell = self.cell * np.array(times)[:, None]
        return System(positions, cell, np.tile(self.species, len(shifts)), times)


def diamond() -> System:
    """64 atoms of carbon, 3.567 Å, displaced by 0.05 Å."""
    corner = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4.0
    basis = 3.567 * np.concatenate([corner, corner + 0.25])
    unit = System(basis, 3.567 * np.eye(3), np.ones(8, dtype=np.int64))
    atoms = unit.repeat(2, 2, 2)
    noise = 0.05 * np.random.default_rng(64).standard_normal(atoms.positions.shape)
    return System(atoms.positions + noise, atoms.cell, atoms.species)


def water(side: int = 6) -> System:
    """``side³`` molecules at random orientations on a grid, 0.997 g/cm³."""
    rng = np.random.default_rng(side)
    spacing = 3.107
    angle = np.radians(104.5)
    bonds = 0.9572 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    positions = []
    for spot in np.ndindex(side, side, side):
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        positions.append(spacing * np.array(spot) + bonds @ turn)
    species = np.tile([2, 0, 0], side**3)
    cell = spacing * side * np.eye(3)
    return System(np.concatenate(positions), cell, species)


def make_systems(quick: bool) -> dict[str, System]:
    """The systems of the table by name; two small ones for ``--quick``."""
    if quick:
        small = water(2)
        return {"24 water": small, "48 water": small.repeat(2, 1, 1)}
    cell = water()
    return {
        "64 diamond": diamond(),
        "648 water": cell,
        "5184 water": cell.repeat(2, 2, 2),
        "20736 water": cell.repeat(4, 4, 2),
        "62208 water": cell.repeat(6, 4, 4),
        "222264 water": cell.repeat(7, 7, 7),
    }


def make_models(size: str) -> tuple[Potential, Potential]:
    """Random weights: the plain network in float64, the fast one in float32."""
    torch.manual_seed(0)
    chosen = SIZES[size]
    config = PETConfig(
        cutoff=chosen.cutoff,
        num_neighbors_adaptive=chosen.n_neighbors,
        d_pet=chosen.d_pet,
        d_head=chosen.d_pet,
        d_node=4 * chosen.d_pet,
        d_feedforward=2 * chosen.d_pet,
        num_heads=8,
        num_gnn_layers=chosen.n_gnn_layers,
        num_attention_layers=chosen.n_attention_layers,
    )
    single = Potential(config, ATOMIC_NUMBERS, [TargetSpec()]).to_dtype(torch.float32)
    single.eval().requires_grad_(False)
    plain = copy.deepcopy(single).to_dtype(torch.float64)
    make_fast(single)
    return plain, single


def operations(size: str, n_atoms: int, n_edges: int) -> float:
    """Floating-point operations of the products and attention, with gradients.

    Two per multiplication and addition; the gradient of the input costs as much again.
    """
    chosen = SIZES[size]
    d, n_layers = chosen.d_pet, chosen.n_gnn_layers
    n_rows = n_atoms + n_edges
    of_token = 6 * d * d  # w_in [4d, d] and w_out [d, 2d] of the MLP
    of_node = 2 * 4 * d * d + 4 * d * 16 * d + 8 * d * 4 * d
    layer = n_edges * of_token + n_rows * 4 * d * d + n_atoms * of_node
    tokens = 1.0 + n_edges / n_atoms
    attention = 2.0 * n_atoms * tokens * tokens * d
    of_edge = 6 * d * d  # the combination's 2d x 2d and 2d x d
    compress = n_edges * (d * d * n_layers + d * d * (n_layers - 1))
    heads = n_edges * 2 * d * d + n_atoms * 5 * d * d
    per_layer = chosen.n_attention_layers * (layer + attention)
    total = n_layers * (per_layer + n_edges * of_edge) + compress + heads
    return 2.0 * 2.0 * total

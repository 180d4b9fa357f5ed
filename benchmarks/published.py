"""Models of the published sizes with random weights, and systems to time them on."""

import ase
import ase.build
import numpy as np
import torch

from petmad.model import PETConfig, Potential, TargetSpec


SIZES = {
    "XS": {"d_pet": 128, "num_gnn_layers": 2, "cutoff": 7.5, "n_neighbors": 8},
    "S": {"d_pet": 256, "num_gnn_layers": 3, "cutoff": 8.0, "n_neighbors": 16},
}
"""What sets the published models apart; the rest follows from ``d_pet``."""

SYSTEMS = ("192 water", "64 diamond", "648 water", "512 diamond")
ELEMENTS = list(range(1, 103))


def published_config(size: str) -> PETConfig:
    """Hyperparameters of a published size."""
    chosen = SIZES[size]
    d_pet = chosen["d_pet"]
    return PETConfig(
        d_pet=d_pet,
        d_head=d_pet,
        d_node=4 * d_pet,
        d_feedforward=2 * d_pet,
        num_heads=8,
        num_gnn_layers=chosen["num_gnn_layers"],
        num_attention_layers=1,
        cutoff=chosen["cutoff"],
        num_neighbors_adaptive=chosen["n_neighbors"],
    )


def random_potential(size: str) -> Potential:
    """A published size with random float32 weights, always the same ones."""
    torch.manual_seed(0)
    potential = Potential(published_config(size), ELEMENTS, [TargetSpec()])
    return potential.to_dtype(torch.float32).eval()


def make_system(name: str) -> ase.Atoms:
    """Atoms of one of the :data:`SYSTEMS`."""
    n_atoms, kind = name.split()
    if kind == "water":
        return water(round((int(n_atoms) / 3) ** (1 / 3)))
    return ase.build.bulk("C", cubic=True).repeat(round((int(n_atoms) / 8) ** (1 / 3)))


def water(n_side: int) -> ase.Atoms:
    """Molecules at random orientations on a cubic grid, 0.993 g/cm³."""
    spacing = 12.445 / 4
    rng = np.random.default_rng(n_side**3)
    molecule = ase.build.molecule("H2O")
    spots = np.stack(np.meshgrid(*3 * [np.arange(n_side)]), axis=-1).reshape(-1, 3)
    system = ase.Atoms(cell=[n_side * spacing] * 3, pbc=True)
    for spot in spots:
        turned = molecule.copy()
        turned.euler_rotate(*rng.uniform(0, 360, 3))
        turned.translate(spot * spacing)
        system += turned
    return system


def product_flops(size: str, n_atoms: int, n_edges: int) -> float:
    """Work of one evaluation with forces: its matrix products, 2 per multiply-add.

    Counts what must be multiplied: of species and geometry, which are tables, nothing.
    Products of the backward pass are those with respect to the input, of weights none;
    the first layer's node states and messages are constants and take none either.
    """
    chosen = SIZES[size]
    d, n_layers = chosen["d_pet"], chosen["num_gnn_layers"]
    later = n_layers - 1
    tokens = n_atoms + n_edges
    compress = 2 * d * d * n_edges * (n_layers + later)
    attention = 2 * 4 * d * d * tokens * n_layers
    edge_mlp = 2 * 6 * d * d * n_edges * n_layers
    combination = 2 * 6 * d * d * n_edges * n_layers
    center = 2 * d * d * (4 + 4 + 64 + 32) * n_atoms * n_layers
    heads = 2 * d * d * (2 * n_edges + 5 * n_atoms)
    forward = compress + attention + edge_mlp + combination + center + heads
    first_contraction = 2 * 4 * d * d * n_atoms
    return float(2 * forward - first_contraction)

"""Spherical blocks of Cartesian tensors, and how blocks turn.

The conventions are those of :mod:`petmad.model.tensors`: components from -λ to λ in an
orthonormal basis.
"""

import math
from typing import List

import torch

from .tensors import Block, ladder


CARTESIAN_BLOCKS: dict[str, List[Block]] = {
    "scalar": [(0, 1)],
    "vector": [(1, 1)],
    "axial_vector": [(1, -1)],
    "symmetric": [(0, 1), (2, 1)],
    "matrix": [(0, 1), (1, -1), (2, 1)],
}
"""Spherical content of each Cartesian kind of target."""


def wigner(block: Block, rotation: torch.Tensor) -> torch.Tensor:
    """How a block turns with an element of O(3), T(Rr) = D T(r).

    Args:
        block: order and parity.
        rotation: [3, 3] float64, proper or not.

    Returns:
        D [2λ + 1, 2λ + 1] float64.
    """
    order, parity = block
    result = rotation.new_ones(1, 1)
    for step in range(1, order + 1):
        rows = ladder(step).to(rotation)
        result = torch.einsum(
            "mai,ab,ij,nbj->mn", rows, result, rotation, rows
        ).contiguous()
    return result * torch.linalg.det(rotation) if parity < 0 else result


def cartesian_rows(kind: str) -> torch.Tensor:
    """Components of the blocks of a Cartesian kind as rows over its entries.

    Returns:
        [n_components, 1, 3 or 9] float64 with orthonormal rows; matrices row by row.
    """
    if kind in ("vector", "axial_vector"):
        return ladder(1)[:, 0]
    if kind == "scalar":
        return torch.ones(1, 1, dtype=torch.float64)
    trace = -torch.eye(3, dtype=torch.float64)[None] / math.sqrt(3.0)
    rows = {0: trace, 2: torch.einsum("mai,aj->mij", ladder(2), ladder(1)[:, 0])}
    rows[1] = torch.zeros(3, 3, 3, dtype=torch.float64)
    for m, (i, j) in enumerate([(2, 0), (0, 1), (1, 2)]):  # y, z, x
        rows[1][m, i, j] = math.sqrt(0.5)
        rows[1][m, j, i] = -math.sqrt(0.5)
    return torch.cat([rows[order] for order, _ in CARTESIAN_BLOCKS[kind]]).flatten(1)

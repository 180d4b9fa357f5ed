"""Neighbor lists: a thin face of the core's."""

from typing import NamedTuple

import torch

from ._ops import load_ops


load_ops()


class EdgeList(NamedTuple):
    """Directed edges i -> j, ascending in (center, neighbor, shift).

    Attributes:
        centers: [n_edges] int64, atom i.
        neighbors: [n_edges] int64, atom j.
        cell_shifts: [n_edges, 3] int64, lattice vectors S added to j.
        reverse_edges: [n_edges] int64, index of the edge j -> i with -S.
    """

    centers: torch.Tensor
    neighbors: torch.Tensor
    cell_shifts: torch.Tensor
    reverse_edges: torch.Tensor


def neighbor_list(
    positions: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor, cutoff: float
) -> EdgeList:
    """Full list of all edges with r_ij = r_j - r_i + S·cell no longer than the cutoff.

    Args:
        positions: [n_atoms, 3] Å on the CPU, wrapped or not.
        cell: [3, 3] Å, lattice vectors as rows; rows of open directions are ignored.
        pbc: [3] bool, periodic along each lattice vector.
        cutoff: Å; the cell may be smaller.

    Raises:
        RuntimeError: wrong shapes, positions that are not finite, a singular cell, a
            cutoff that is not positive.
    """
    return EdgeList(*torch.ops.petmad.whole_neighbor_list(positions, cell, pbc, cutoff))


def edge_vectors(
    positions: torch.Tensor, cell: torch.Tensor, edges: EdgeList
) -> torch.Tensor:
    """r_ij = r_j - r_i + S·cell, [n_edges, 3] float64 Å; not differentiable."""
    return torch.ops.petmad.edge_vectors(
        positions, cell, edges.centers, edges.neighbors, edges.cell_shifts
    )

"""The input of the network: atoms and the directed edges between them."""

from typing import NamedTuple

import torch


class EdgeGraph(NamedTuple):
    """Input of the network: atoms, and the directed edges within the raw cutoff.

    Attributes:
        edge_vectors: [n_edges, 3] float64 Å, from center to neighbor.
        centers: [n_edges] int64, ascending, in [0, n_owned); ghosts' edges follow where
            ghosts are recomputed.
        neighbors: [n_edges] int64 in [0, n_total).
        reverse_edges: [n_edges] int64, the edge back; -1 where it lives on another
            rank.
        species: [n_total] int64, dense index from 0; owned atoms first, then ghosts.
        structures: [n_owned] int64, structure of each atom.
        charges: [n_structures] int64, total charge (read by conditioned models only).
        spin_multiplicities: [n_structures] int64, 2S + 1 (likewise).
        halo: handle of the host program's exchange, 0 for none, -1 where ghosts are
            recomputed (one structure).
    """

    edge_vectors: torch.Tensor
    centers: torch.Tensor
    neighbors: torch.Tensor
    reverse_edges: torch.Tensor
    species: torch.Tensor
    structures: torch.Tensor
    charges: torch.Tensor
    spin_multiplicities: torch.Tensor
    halo: int

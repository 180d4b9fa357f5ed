"""Directions of the kept edges, and sums of what they carry on their centers."""

import torch

from . import constants
from .graph import EdgeGraph
from .pet import Features


def directions(graph: EdgeGraph, features: Features) -> torch.Tensor:
    """Unit vectors of the kept edges, [n_kept, 3] in the dtype of the network."""
    vectors = graph.edge_vectors.index_select(0, features.kept)
    squared = (vectors * vectors).sum(dim=1, keepdim=True)
    unit = vectors / torch.sqrt(squared + constants.DISTANCE_EPSILON)
    return unit.to(features.weights.dtype)


def sum_by_center(
    values: torch.Tensor, features: Features, n_atoms: int
) -> torch.Tensor:
    """Values of the kept edges [n_kept, ...] summed on their centers."""
    shape = list(values.shape)
    shape[0] = n_atoms
    total = torch.zeros(shape, dtype=values.dtype, device=values.device)
    return total.index_add(0, features.kept_centers, values)

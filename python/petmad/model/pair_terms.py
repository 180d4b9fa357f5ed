"""What pairs of atoms alone tell of a tensor: Σ_j w_ab(r_ij) Y_λ(r̂_ij).

The functions w_ab of each ordered pair of species are fitted by least squares before
training (:mod:`petmad.training.fitted_terms`) and then stay as they are, as
compositions do; the network learns the rest. They turn exactly, and see all neighbors
within the fixed cutoff, where a network with adaptive cutoffs hardly sees the density.
"""

from typing import List, NamedTuple

import torch
from torch import nn

from . import constants
from .config import PETConfig
from .cutoff import cutoff_weights
from .graph import EdgeGraph
from .tensors import Block, MaximalCoupling


N_FUNCTIONS = 16
"""Gaussians over the cutoff, as wide as they are apart, 1/15 of it."""


class PairFunctions(NamedTuple):
    """What the pair terms are made of, row by row of the edges.

    Attributes:
        radial: [n_edges, N_FUNCTIONS] Gaussians of the distance.
        factors: [n_edges, 1] of the fixed cutoff.
        unit: [n_edges, 3].
        pairs: [n_edges] ordered pair of species.
    """

    radial: torch.Tensor
    factors: torch.Tensor
    unit: torch.Tensor
    pairs: torch.Tensor


class PairBlock(nn.Module):
    """One block of the pair terms; a pseudotensor has none.

    Buffer ``weights``, [n_species², N_FUNCTIONS], in units of the target's scale.
    """

    def __init__(self, n_species: int, block: Block) -> None:
        super().__init__()
        self.order, parity = block
        self.is_proper = parity > 0
        self.coupling = MaximalCoupling((self.order, 1))
        self.register_buffer("weights", torch.zeros(n_species**2, N_FUNCTIONS))

    def forward(self, edges: PairFunctions) -> torch.Tensor:
        """[n_edges, 2λ + 1]."""
        if not self.is_proper:
            return edges.unit.new_zeros([edges.unit.shape[0], 2 * self.order + 1])
        weights = self.weights.index_select(0, edges.pairs)
        values = (edges.radial * weights).sum(dim=1, keepdim=True)
        return values * edges.factors * self.harmonics(edges.unit)

    def harmonics(self, unit: torch.Tensor) -> torch.Tensor:
        """Y_λ of unit vectors, [n_edges, 2λ + 1]."""
        return self.coupling.harmonics(unit)


class PairTerms(nn.Module):
    """The pair terms of a target; 0 until they are fitted."""

    def __init__(self, config: PETConfig, n_species: int, blocks: List[Block]) -> None:
        super().__init__()
        self.n_species = n_species
        self.cutoff = config.cutoff
        self.width = config.cutoff_width
        self.function = config.cutoff_function
        self.blocks = nn.ModuleList(PairBlock(n_species, block) for block in blocks)
        self.spacing = config.cutoff / (N_FUNCTIONS - 1)
        knots = torch.arange(N_FUNCTIONS, dtype=torch.get_default_dtype())
        self.register_buffer("knots", knots, persistent=False)

    def forward(self, graph: EdgeGraph) -> torch.Tensor:
        """Blocks side by side, [n_owned, Σ(2λ + 1)] in the dtype of the weights."""
        edges = self.functions(graph)
        rows: List[torch.Tensor] = []
        for block in self.blocks:
            rows.append(block(edges))
        return self.sum_by_center(torch.cat(rows, dim=1), graph)

    def functions(self, graph: EdgeGraph) -> PairFunctions:
        """Of all edges, kept or not, in the dtype of the weights."""
        vectors = graph.edge_vectors.to(self.knots.dtype)
        squared = (vectors * vectors).sum(dim=1, keepdim=True)
        distances = torch.sqrt(squared + constants.DISTANCE_EPSILON)
        cutoffs = torch.full_like(distances, self.cutoff)
        offsets = distances * (1.0 / self.spacing) - self.knots
        centers = graph.species.index_select(0, graph.centers)
        neighbors = graph.species.index_select(0, graph.neighbors)
        return PairFunctions(
            radial=torch.exp(-(offsets * offsets)),
            factors=cutoff_weights(distances, cutoffs, self.width, self.function),
            unit=vectors / distances,
            pairs=centers * self.n_species + neighbors,
        )

    def sum_by_center(self, rows: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
        """Rows of the edges [n_edges, n] summed on owned atoms, [n_owned, n]."""
        total = rows.new_zeros([graph.species.shape[0], rows.shape[1]])
        total = total.index_add(0, graph.centers, rows)
        return total[: graph.structures.shape[0]]

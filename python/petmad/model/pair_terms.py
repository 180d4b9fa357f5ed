"""What pairs of atoms alone tell of a tensor: Σ_j w_ab(r_ij) Y_λ(r̂_ij).

The functions w_ab of each ordered pair of species are fitted by least squares before
training (:mod:`petmad.training.fitted_terms`) and then stay as they are, as
compositions do; the network learns the rest. They turn exactly, and see all neighbors
within the fixed cutoff, where a network with adaptive cutoffs hardly sees the density.
"""

from typing import List, Tuple

import torch
from torch import nn

from . import constants
from .config import PETConfig
from .cutoff import cutoff_weights
from .graph import EdgeGraph
from .tensors import Block, MaximalCoupling


N_FUNCTIONS = 16
"""Gaussians over the cutoff, as wide as they are apart, 1/15 of it."""


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

    def forward(
        self, radial: torch.Tensor, unit: torch.Tensor, pairs: torch.Tensor
    ) -> torch.Tensor:
        """[n_edges, N_FUNCTIONS], [n_edges, 3], [n_edges] in; [n_edges, 2λ + 1]."""
        if not self.is_proper:
            return unit.new_zeros([unit.shape[0], 2 * self.order + 1])
        factors = (radial * self.weights.index_select(0, pairs)).sum(dim=1)
        return factors.unsqueeze(1) * self.harmonics(unit)

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
        self.register_buffer(
            "knots", torch.linspace(0.0, config.cutoff, N_FUNCTIONS), persistent=False
        )

    def forward(self, graph: EdgeGraph) -> torch.Tensor:
        """Blocks side by side, [n_owned, Σ(2λ + 1)] in the dtype of the weights."""
        radial, unit, pairs = self.functions(graph)
        rows: List[torch.Tensor] = []
        for block in self.blocks:
            rows.append(block(radial, unit, pairs))
        return self.sum_by_center(torch.cat(rows, dim=1), graph)

    def functions(
        self, graph: EdgeGraph
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gaussians times the cutoff factor, unit vectors, ordered pair of species.

        [n_edges, N_FUNCTIONS], [n_edges, 3], [n_edges]; of all edges, kept or not.
        """
        squared = (graph.edge_vectors * graph.edge_vectors).sum(dim=1, keepdim=True)
        distances = torch.sqrt(squared + constants.DISTANCE_EPSILON)
        unit = (graph.edge_vectors / distances).to(self.knots.dtype)
        cutoffs = torch.full_like(distances, self.cutoff)
        factors = cutoff_weights(distances, cutoffs, self.width, self.function)
        spacing = self.cutoff / (self.knots.shape[0] - 1)
        offsets = (distances.to(self.knots.dtype) - self.knots) / spacing
        radial = torch.exp(-offsets * offsets) * factors.to(self.knots.dtype)
        centers = graph.species.index_select(0, graph.centers)
        neighbors = graph.species.index_select(0, graph.neighbors)
        return radial, unit, centers * self.n_species + neighbors

    def sum_by_center(self, rows: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
        """Rows of the edges [n_edges, n] summed on owned atoms, [n_owned, n]."""
        total = rows.new_zeros([graph.species.shape[0], rows.shape[1]])
        total = total.index_add(0, graph.centers, rows)
        return total[: graph.structures.shape[0]]

"""What is linear in the network's tokens: Σ_j f_ij (w_a · t_ij) Y_λ(r̂_ij).

The weights of each species of the center are fitted by least squares to the features of
a network that is kept (:mod:`petmad.training.fitted_terms`) and then stay as they are;
a scalar has the tokens of atoms, too. A readout beside them learns the rest. They turn
as far as the tokens are invariant.
"""

from typing import List

import torch
from torch import nn

from .config import PETConfig
from .graph import EdgeGraph
from .kept_edges import directions, sum_by_center
from .pet import Features
from .tensors import Block, MaximalCoupling


class TokenBlock(nn.Module):
    """One block of the token terms; a pseudotensor has none.

    Buffers ``edge_weights``, [n_species, R·d_pet], and ``node_weights``, [n_species,
    R·d_node] (λ = 0) or [n_species, 0], in units of the target's scale.
    """

    def __init__(self, config: PETConfig, n_species: int, block: Block) -> None:
        super().__init__()
        self.order, parity = block
        self.is_proper = parity > 0
        self.coupling = MaximalCoupling((self.order, 1))
        n_edge = config.n_readouts * config.d_pet
        n_node = config.n_readouts * config.d_node if block == (0, 1) else 0
        self.register_buffer("edge_weights", torch.zeros(n_species, n_edge))
        self.register_buffer("node_weights", torch.zeros(n_species, n_node))

    def forward(
        self, features: Features, unit: torch.Tensor, species: torch.Tensor
    ) -> torch.Tensor:
        """Features, [n_kept, 3], [n_owned] in; [n_owned, 2λ + 1]."""
        result = unit.new_zeros([species.shape[0], 2 * self.order + 1])
        if not self.is_proper:
            return result
        centers = features.kept_centers
        of_center = species.index_select(0, centers).unsqueeze(1)
        edges = torch.cat(features.edges, dim=1) @ self.edge_weights.T
        factors = edges.gather(1, of_center) * features.weights.unsqueeze(1)
        result = result.index_add(0, centers, factors * self.coupling.harmonics(unit))
        if self.node_weights.shape[1] > 0:
            nodes = torch.cat(features.nodes, dim=1) @ self.node_weights.T
            result = result + nodes.gather(1, species.unsqueeze(1))
        return result

    def columns(
        self, features: Features, unit: torch.Tensor, species: torch.Tensor
    ) -> torch.Tensor:
        """What each weight would add, edges' then nodes' of each species in turn.

        [n_owned, 2λ + 1, n_species · (R·d_pet + R·d_node)], float64.
        """
        n_atoms, n_species = species.shape[0], self.edge_weights.shape[0]
        rows = torch.cat(features.edges, dim=1) * features.weights.unsqueeze(1)
        rows = self.coupling.harmonics(unit).unsqueeze(2) * rows.unsqueeze(1)
        total = sum_by_center(rows, features, n_atoms)
        if self.node_weights.shape[1] > 0:
            nodes = torch.cat(features.nodes, dim=1).unsqueeze(1)
            total = torch.cat([total, nodes], dim=2)
        result = torch.zeros(
            [n_atoms, total.shape[1], n_species, total.shape[2]], dtype=torch.float64
        )
        result[torch.arange(n_atoms), :, species] = total.double()
        return result.flatten(2)


class TokenTerms(nn.Module):
    """The token terms of a target; 0 until they are fitted."""

    def __init__(self, config: PETConfig, n_species: int, blocks: List[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TokenBlock(config, n_species, block) for block in blocks
        )

    def forward(self, features: Features, graph: EdgeGraph) -> torch.Tensor:
        """Blocks side by side, [n_owned, Σ(2λ + 1)]."""
        unit = directions(graph, features)
        species = graph.species[: graph.structures.shape[0]].long()
        rows: List[torch.Tensor] = []
        for block in self.blocks:
            rows.append(block(features, unit, species))
        return torch.cat(rows, dim=1)

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
    """One block of the token terms; those of a pseudotensor are 0.

    Buffers ``edge_weights``, [n_species, R·d_pet], and ``node_weights``, [n_species,
    R·d_node] (λ = 0) or [n_species, 0], in units of the target's scale.
    """

    def __init__(self, config: PETConfig, n_species: int, block: Block) -> None:
        super().__init__()
        order, parity = block
        self.order = order
        self.is_proper = parity > 0
        self.coupling = MaximalCoupling((order, 1))
        n_edge = config.n_readouts * config.d_pet
        n_node = config.n_readouts * config.d_node if block == (0, 1) else 0
        self.register_buffer("edge_weights", torch.zeros(n_species, n_edge))
        self.register_buffer("node_weights", torch.zeros(n_species, n_node))


class TokenTerms(nn.Module):
    """The token terms of a target; 0 until they are fitted."""

    def __init__(self, config: PETConfig, n_species: int, blocks: List[Block]) -> None:
        super().__init__()
        self.n_species = n_species
        self.blocks = nn.ModuleList(
            TokenBlock(config, n_species, block) for block in blocks
        )

    def forward(self, features: Features, graph: EdgeGraph) -> torch.Tensor:
        """Blocks side by side, [n_owned, Σ(2λ + 1)]."""
        unit = directions(graph, features)
        species = graph.species[: graph.structures.shape[0]].long().unsqueeze(1)
        of_centers = species.index_select(0, features.kept_centers)
        # every species' weights at once: products of rows, then the one of the center
        edges = per_species(features.edges, [b.edge_weights for b in self.blocks])
        rows: List[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            if block.is_proper:
                chosen = edges.gather(1, of_centers + i * self.n_species)
                chosen = chosen * features.weights.unsqueeze(1)
                value = chosen * block.coupling.harmonics(unit)
            else:
                value = unit.new_zeros([unit.shape[0], 2 * block.order + 1])
            result = sum_by_center(value, features, species.shape[0])
            if block.node_weights.shape[1] > 0:
                nodes = per_species(features.nodes, [block.node_weights])
                result = result + nodes.gather(1, species)
            rows.append(result)
        return torch.cat(rows, dim=1)


def per_species(
    layers: List[torch.Tensor], weights: List[torch.Tensor]
) -> torch.Tensor:
    """Products of each row's layers, side by side, with weights of several blocks.

    R times [n_rows, width], and [n_species, R · width] of each block, in; [n_rows,
    n_blocks · n_species].
    """
    parts = torch.cat(weights).split(layers[0].shape[1], dim=1)
    result = layers[0] @ parts[0].T
    for i in range(1, len(layers)):
        result = result + layers[i] @ parts[i].T
    return result

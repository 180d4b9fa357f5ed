"""A readout of a tensor, and beside it the terms that are fitted before training."""

from typing import Tuple

import torch
from torch import nn

from .config import PETConfig
from .graph import EdgeGraph
from .pair_terms import PairTerms
from .pet import Features
from .readout import TargetSpec
from .token_terms import TokenTerms


class FittedReadout(nn.Module):
    """The sum of a readout of blocks, pair terms and token terms, as a target asks."""

    def __init__(
        self, readout: nn.Module, config: PETConfig, n_species: int, spec: TargetSpec
    ) -> None:
        super().__init__()
        self.readout = readout
        blocks = spec.blocks
        self.pair_terms = (
            PairTerms(config, n_species, blocks) if spec.pair_terms else None
        )
        self.token_terms = (
            TokenTerms(config, n_species, blocks) if spec.token_terms else None
        )

    def forward(
        self, features: Features, graph: EdgeGraph, wants_last: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Blocks [n_owned, Σ(2λ + 1)]; last features of the readout."""
        result, last = self.readout(features, graph, wants_last)
        if self.pair_terms is not None:
            result = result + self.pair_terms(graph)
        if self.token_terms is not None:
            result = result + self.token_terms(features, graph)
        return result, last

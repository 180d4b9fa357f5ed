"""Fit of the terms of a tensor that training leaves alone: of pairs and of tokens."""

import torch

from petmad.data import Sample, collate
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.model import EdgeGraph, Potential, TargetSpec
from petmad.model.kept_edges import directions
from petmad.model.pair_terms import N_FUNCTIONS, PairBlock, PairTerms
from petmad.model.spherical import wigner

from .linear_fit import Family


N_ORIENTATIONS = 4
"""In which each structure is seen where tokens are fitted; pairs turn exactly."""


def pair_columns(terms: PairTerms, block: PairBlock, graph: EdgeGraph) -> torch.Tensor:
    """What each weight of a block would add, [n_atoms, 2λ + 1, n_species² · 16]."""
    edges = terms.functions(graph)
    harmonics = block.harmonics(edges.unit) * edges.factors
    n_atoms, n_pairs = len(graph.species), terms.n_species**2
    products = harmonics[:, :, None] * edges.radial[:, None, :]
    columns = products.new_zeros(n_atoms * n_pairs, *products.shape[1:])
    columns.index_add_(0, graph.centers * n_pairs + edges.pairs, products)
    columns = columns.reshape(n_atoms, n_pairs, -1, N_FUNCTIONS)
    return columns.transpose(1, 2).flatten(2).double()


class TermColumns:
    """What each weight of a target's terms adds to the labels of a structure.

    Args:
        potential: its network must stay as it is where there are token terms.
        spec: of the target.
    """

    def __init__(self, potential: Potential, spec: TargetSpec) -> None:
        self.network = potential.network
        self.spec = spec
        readout = potential.readouts[potential.target_names.index(spec.name)]
        self.pair_terms, self.token_terms = readout.pair_terms, readout.token_terms
        self.n_seen = 0

    def families(self, i_block: int) -> list[Family]:
        """Columns of a block: pairs of species first, then tokens."""
        families = []
        if self.pair_terms is not None:
            weights = self.pair_terms.blocks[i_block].weights
            families.append(Family(weights.numel(), N_FUNCTIONS))
        if self.token_terms is not None:
            block = self.token_terms.blocks[i_block]
            n_columns = block.edge_weights.numel() + block.node_weights.numel()
            families.append(Family(n_columns, 1))
        return families

    @torch.no_grad()
    def of(self, sample: Sample) -> list[torch.Tensor]:
        """Of each block [n_orientations, n_rows, 2λ + 1, n_columns] float64.

        Seen in several orientations, and turned back; the next sample in others.
        """
        rotations = [torch.eye(3, dtype=torch.float64)]
        if self.token_terms is not None:
            numbers = range(self.n_seen, self.n_seen + N_ORIENTATIONS)
            rotations = [random_rotation(0, 0, number) for number in numbers]
            self.n_seen += N_ORIENTATIONS
        graph = collate([rotate(sample, rotation) for rotation in rotations]).graph
        features = self.network(graph) if self.token_terms is not None else None
        blocks = []
        for i, block in enumerate(self.spec.blocks):
            parts = []
            if self.pair_terms is not None:
                terms = self.pair_terms
                parts.append(pair_columns(terms, terms.blocks[i], graph))
            if self.token_terms is not None:
                unit = directions(graph, features)
                tokens = self.token_terms.blocks[i]
                parts.append(tokens.columns(features, unit, graph.species.long()))
            columns = torch.cat(parts, dim=2)
            columns = columns.unflatten(0, (len(rotations), -1))
            if not self.spec.per_atom:
                columns = columns.sum(1, keepdim=True)
            back = torch.stack([wigner(block, rotation).T for rotation in rotations])
            blocks.append(torch.einsum("kmn,krnc->krmc", back, columns))
        return blocks

    def store(self, i_block: int, weights: torch.Tensor) -> None:
        """Weights [n_columns] of a block, in units of the target's scale."""
        parts = weights.split([family.n_columns for family in self.families(i_block)])
        if self.pair_terms is not None:
            kept = self.pair_terms.blocks[i_block].weights
            kept.copy_(parts[0].reshape(kept.shape))
        if self.token_terms is not None:
            block = self.token_terms.blocks[i_block]
            n_edge = block.edge_weights.shape[1]
            rows = parts[-1].reshape(len(block.edge_weights), -1)
            block.edge_weights.copy_(rows[:, :n_edge])
            block.node_weights.copy_(rows[:, n_edge:])

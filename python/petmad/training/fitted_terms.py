"""Fit of the terms of a tensor that training leaves alone: of pairs and of tokens."""

import torch

from petmad.data import Sample, collate
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.model import EdgeGraph, Potential, TargetSpec
from petmad.model.kept_edges import directions, sum_by_center
from petmad.model.pair_terms import N_FUNCTIONS, PairBlock, PairTerms
from petmad.model.pet import Features
from petmad.model.spherical import wigner
from petmad.model.token_terms import TokenBlock

from .linear_fit import Family


N_ORIENTATIONS = 4
"""In which each structure is seen where tokens are fitted; pairs turn exactly."""
MOST_COLUMNS = 8192
"""Of one block. 4096 take 1.9 GB and 22 s on one thread, 2048 of two families 21 s;
8192 have four times the memory and eight times the work."""


def pair_columns(
    terms: PairTerms, block: PairBlock, graph: EdgeGraph, places: torch.Tensor
) -> torch.Tensor:
    """What each weight of a block would add, [n_atoms, 2λ + 1, n_present² · 16].

    Args:
        terms: of the target.
        block: one of its blocks.
        graph: of structures without other species than those present.
        places: [n_species] of each species among those present.
    """
    edges = terms.functions(graph)
    harmonics = block.harmonics(edges.unit) * edges.factors
    n_atoms, n_present = len(graph.species), int(places.max()) + 1
    pairs = places[edges.pairs // terms.n_species] * n_present
    pairs = pairs + places[edges.pairs % terms.n_species]
    products = harmonics[:, :, None] * edges.radial[:, None, :]
    columns = products.new_zeros(n_atoms * n_present**2, *products.shape[1:])
    columns.index_add_(0, graph.centers * n_present**2 + pairs, products)
    columns = columns.reshape(n_atoms, n_present**2, -1, N_FUNCTIONS)
    return columns.transpose(1, 2).flatten(2).double()


def token_columns(
    block: TokenBlock,
    features: Features,
    graph: EdgeGraph,
    places: torch.Tensor,
) -> torch.Tensor:
    """What each weight of a block would add; arguments as of :func:`pair_columns`.

    [n_atoms, 2λ + 1, n_present · (R·d_pet + R·d_node)]; edges' then nodes' of each
    species in turn.
    """
    n_atoms, n_present = len(graph.species), int(places.max()) + 1
    harmonics = block.coupling.harmonics(directions(graph, features))
    rows = torch.cat(features.edges, dim=1) * features.weights.unsqueeze(1)
    rows = sum_by_center(harmonics[:, :, None] * rows[:, None, :], features, n_atoms)
    if block.node_weights.shape[1] > 0:
        nodes = torch.cat(features.nodes, dim=1).unsqueeze(1)
        rows = torch.cat([rows, nodes], dim=2)
    columns = torch.zeros(
        n_atoms, rows.shape[1], n_present, rows.shape[2], dtype=torch.float64
    )
    of_centers = places[graph.species.long()]
    columns[torch.arange(n_atoms), :, of_centers] = rows.double()
    return columns.flatten(2)


class TermColumns:
    """What each weight of a target's terms adds to the labels of a structure.

    Args:
        potential: its network must stay as it is where there are token terms.
        spec: of the target.
        present: species of the structures, ascending; others keep weights of 0.

    Raises:
        ValueError: a block has more than :data:`MOST_COLUMNS`.
    """

    def __init__(
        self, potential: Potential, spec: TargetSpec, present: list[int]
    ) -> None:
        self.network = potential.network
        self.spec = spec
        n_blocks = len(spec.blocks)
        readout = potential.readouts[potential.target_names.index(spec.name)]
        self.pair_terms, self.token_terms = readout.pair_terms, readout.token_terms
        self.present = present
        self.places = torch.zeros(len(potential.atomic_numbers), dtype=torch.long)
        self.places[present] = torch.arange(len(present))
        most = max(sum(f.n_columns for f in self.families(i)) for i in range(n_blocks))
        if most > MOST_COLUMNS:
            raise ValueError(
                f"fitted terms of `{spec.name}` have {most} weights with the "
                f"{len(present)} elements of these structures, more than "
                f"{MOST_COLUMNS}; leave `token_terms` or `pair_terms` out"
            )

    def families(self, i_block: int) -> list[Family]:
        """Columns of a block: pairs of species first, then tokens."""
        families, n_present = [], len(self.present)
        if self.pair_terms is not None:
            families.append(Family(n_present**2 * N_FUNCTIONS, N_FUNCTIONS))
        if self.token_terms is not None:
            block = self.token_terms.blocks[i_block]
            width = block.edge_weights.shape[1] + block.node_weights.shape[1]
            families.append(Family(n_present * width, 1))
        return families

    @torch.no_grad()
    def of(self, sample: Sample, index: int) -> list[torch.Tensor]:
        """Of each block [n_orientations, n_rows, 2λ + 1, n_columns] float64.

        Seen in several orientations, others for each index, and turned back.
        """
        rotations = [torch.eye(3, dtype=torch.float64)]
        if self.token_terms is not None:
            first = index * N_ORIENTATIONS
            numbers = range(first, first + N_ORIENTATIONS)
            rotations = [random_rotation(0, 0, number) for number in numbers]
        graph = collate([rotate(sample, rotation) for rotation in rotations]).graph
        features = self.network(graph) if self.token_terms is not None else None
        blocks = []
        for i, block in enumerate(self.spec.blocks):
            parts = []
            if self.pair_terms is not None:
                terms = self.pair_terms
                parts.append(pair_columns(terms, terms.blocks[i], graph, self.places))
            if self.token_terms is not None:
                tokens = self.token_terms.blocks[i]
                parts.append(token_columns(tokens, features, graph, self.places))
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
        present = torch.tensor(self.present)
        if self.pair_terms is not None:
            kept = self.pair_terms.blocks[i_block].weights
            n, n_species = len(present), len(self.places)
            table = kept.new_zeros(n_species, n_species, N_FUNCTIONS)
            table[present[:, None], present] = parts[0].reshape(n, n, -1).to(kept)
            kept.copy_(table.reshape(kept.shape))
        if self.token_terms is not None:
            block = self.token_terms.blocks[i_block]
            n_edge = block.edge_weights.shape[1]
            rows = parts[-1].reshape(len(present), -1).to(block.edge_weights)
            block.edge_weights.zero_()[present] = rows[:, :n_edge]
            block.node_weights.zero_()[present] = rows[:, n_edge:]

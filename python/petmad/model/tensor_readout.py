"""Readouts of tensor targets: three ways to get the scalars of a tensor.

* ``edge``: one scalar per directed edge, from PET's edge tokens, times the direction of
  the edge; equivariant as far as the tokens are invariant.
* ``node``: PET's per-atom scalars times a basis of learned vectors; likewise.
* ``exact``: the same basis times exactly invariant scalars of a power spectrum.

The fourth, ``direct``, is the plain :class:`~petmad.model.readout.Readout`: components
as independent numbers, equivariance learned. All return their blocks side by side, in
units of the scale, per atom, and may have terms beside them that are fitted before
training (:mod:`petmad.model.fitted_terms`).
"""

from typing import List, Tuple

import torch
from torch import nn

from . import constants
from .config import PETConfig
from .fitted_terms import FittedReadout
from .graph import EdgeGraph
from .kept_edges import directions, sum_by_center
from .pet import Features
from .readout import Readout, TargetSpec
from .tensors import Block, CoupledBasis, MaximalCoupling


RANK = 4
"""Couplings of learned vectors per block of the edge form."""
N_RADIAL = 8
"""Gaussians over the cutoff; neighbors 1/7 of it apart."""
N_CHANNELS = 16
"""Channels of the power spectrum, for each l up to :data:`MAX_L`."""
MAX_L = 3
WIDTH = 128
"""Hidden layers of the network on the power spectrum."""


def make_readout(config: PETConfig, spec: TargetSpec, n_species: int) -> nn.Module:
    """The readout a target asks for."""
    readout = _learned_readout(config, spec, n_species)
    if spec.blocks and (spec.pair_terms or spec.token_terms):
        return FittedReadout(readout, config, n_species, spec)
    return readout


def _learned_readout(config: PETConfig, spec: TargetSpec, n_species: int) -> nn.Module:
    if not spec.blocks or spec.readout == "direct":
        return Readout(config, spec.n_components)
    if spec.readout == "edge":
        return EdgeReadout(config, spec.blocks, spec.lambda_columns)
    basis = VectorBasis(config, n_species, spec.blocks, spec.lambda_columns)
    if spec.readout == "node":
        scalars: nn.Module = Readout(config, basis.n_columns)
    else:
        scalars = PowerSpectrum(config, n_species, basis.n_columns)
    return BasisReadout(scalars, basis)


class EdgeForm(nn.Module):
    """One block of the edge form: Σ_j u_ij Y_λ(r̂_ij) + Σ_a w_ia (Q_a Q'_a …)_λ.

    Q_a = Σ_j v^a_ij r̂_ij; the edge scalars u, v carry the cutoff factor. The first term
    alone reaches a centrosymmetric site; it is left out without the λ columns (λ ≥ 2),
    and pseudotensors have none.
    """

    def __init__(self, block: Block, lambda_columns: bool) -> None:
        super().__init__()
        order, parity = block
        self.coupling = MaximalCoupling(block)
        self.n_vectors = self.coupling.n_vectors
        self.n_harmonic = int(parity > 0 and (order < 2 or lambda_columns))
        self.n_node = RANK if self.n_vectors > 0 else 1
        self.n_edge = self.n_harmonic + RANK * self.n_vectors
        self.order = order

    def forward(
        self,
        node: torch.Tensor,
        edge: torch.Tensor,
        unit: torch.Tensor,
        features: Features,
    ) -> torch.Tensor:
        """[n_atoms, n_node], [n_kept, n_edge], [n_kept, 3] in; [n_atoms, 2λ + 1]."""
        n_atoms = node.shape[0]
        if self.n_vectors == 0:
            result = node
        else:
            scalars = edge[:, self.n_harmonic :]
            vectors = (scalars.unsqueeze(2) * unit.unsqueeze(1)).flatten(1)
            pooled = sum_by_center(vectors, features, n_atoms)
            pooled = pooled.reshape(n_atoms, self.n_vectors, self.n_node, 3)
            result = (node.unsqueeze(2) * self.coupling(pooled.unbind(1))).sum(dim=1)
        if self.n_harmonic > 0:
            harmonics = edge[:, :1] * self.coupling.harmonics(unit)
            result = result + sum_by_center(harmonics, features, n_atoms)
        return result


class EdgeReadout(Readout):
    """The edge form on PET's tokens; heads as those of any target."""

    def __init__(
        self, config: PETConfig, blocks: List[Block], lambda_columns: bool
    ) -> None:
        forms = [EdgeForm(block, lambda_columns) for block in blocks]
        n_node = sum(form.n_node for form in forms)
        n_edge = sum(form.n_edge for form in forms)
        super().__init__(config, n_node, n_edge)
        self.forms = nn.ModuleList(forms)

    def forward(
        self, features: Features, graph: EdgeGraph, wants_last: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Blocks [n_owned, Σ(2λ + 1)]; last features [n_owned, 2·R·d_head]."""
        node, edge, last = self.scalars(features, wants_last)
        unit = directions(graph, features)
        i_node = 0
        i_edge = 0
        blocks: List[torch.Tensor] = []
        for form in self.forms:
            node_part = node[:, i_node : i_node + form.n_node]
            edge_part = edge[:, i_edge : i_edge + form.n_edge]
            blocks.append(form(node_part, edge_part, unit, features))
            i_node += form.n_node
            i_edge += form.n_edge
        return torch.cat(blocks, dim=1), last


class PairTable(nn.Module):
    """Learned functions of distance for each ordered pair of species, with cutoff."""

    def __init__(self, cutoff: float, n_species: int, n_functions: int) -> None:
        super().__init__()
        self.n_species = n_species
        self.n_functions = n_functions
        self.spacing = cutoff / (N_RADIAL - 1)
        self.register_buffer(
            "knots", torch.linspace(0.0, cutoff, N_RADIAL), persistent=False
        )
        self.table = nn.Embedding(n_species * n_species, n_functions * N_RADIAL)
        nn.init.normal_(self.table.weight, std=0.5 / N_RADIAL**0.5)

    def forward(self, features: Features, graph: EdgeGraph) -> torch.Tensor:
        """[n_kept, n_functions]."""
        kept = features.kept
        vectors = graph.edge_vectors.index_select(0, kept)
        squared = (vectors * vectors).sum(dim=1, keepdim=True)
        distances = torch.sqrt(squared + constants.DISTANCE_EPSILON)
        radial = torch.exp(
            -(((distances.to(self.knots.dtype) - self.knots) / self.spacing) ** 2)
        )
        center = graph.species.index_select(0, features.kept_centers)
        neighbor = graph.species.index_select(0, graph.neighbors.index_select(0, kept))
        pairs = center * self.n_species + neighbor
        # edges of one pair share a table: sorted, they need no copy of it each
        order = torch.argsort(pairs)
        counts = torch.bincount(pairs, minlength=self.n_species * self.n_species)
        present = torch.nonzero(counts).squeeze(1)
        sizes: List[int] = counts[present].tolist()
        tables = self.table(present).reshape(-1, self.n_functions, self.knots.shape[0])
        parts = [radial.new_zeros([0, self.n_functions])]
        for i, rows in enumerate(radial.index_select(0, order).split(sizes)):
            parts.append(rows @ tables[i].T)
        values = torch.cat(parts).index_select(0, torch.argsort(order))
        return values * features.weights.unsqueeze(1)


class VectorBasis(nn.Module):
    """For each block its coupled basis, and the λ columns where λ ≥ 2.

    Three vectors per atom and block, q_a = Σ_j W_a(z_i, z_j, r_ij) r̂_ij, and 2λ + 1
    columns Σ_j W'_b(z_i, z_j, r_ij) Y_λ(r̂_ij); polynomial in them, never normalized.
    """

    def __init__(
        self,
        config: PETConfig,
        n_species: int,
        blocks: List[Block],
        lambda_columns: bool,
    ) -> None:
        super().__init__()
        self.bases = nn.ModuleList(CoupledBasis(block) for block in blocks)
        self.harmonics = nn.ModuleList(MaximalCoupling(block) for block in blocks)
        self.n_lambda: List[int] = [
            2 * order + 1 if lambda_columns and order > 1 and parity > 0 else 0
            for order, parity in blocks
        ]
        self.n_columns = sum(basis.n_columns for basis in self.bases)
        self.n_columns += sum(self.n_lambda)
        n_functions = 3 * len(blocks) + sum(self.n_lambda)
        self.pairs = PairTable(config.cutoff, n_species, n_functions)

    def forward(self, features: Features, graph: EdgeGraph) -> List[torch.Tensor]:
        """Per block [n_owned, n_columns, 2λ + 1]."""
        n_atoms = graph.structures.shape[0]
        unit = directions(graph, features)
        functions = self.pairs(features, graph)
        start = 0
        bases: List[torch.Tensor] = []
        for i, (basis, harmonic) in enumerate(zip(self.bases, self.harmonics)):
            n_lambda = self.n_lambda[i]
            weights = functions[:, start : start + 3].unsqueeze(2)
            q = sum_by_center(weights * unit.unsqueeze(1), features, n_atoms)
            columns = basis(q)
            start += 3
            if n_lambda > 0:
                weights = functions[:, start : start + n_lambda].unsqueeze(2)
                values = weights * harmonic.harmonics(unit).unsqueeze(1)
                extra = sum_by_center(values, features, n_atoms)
                columns = torch.cat([columns, extra], dim=1)
                start += n_lambda
            bases.append(columns)
        return bases


class PowerSpectrum(nn.Module):
    """Exactly invariant scalars per atom: a small network on the power spectrum.

    Of the expansion A_cl = Σ_j W_cl(z_i, z_j, r_ij) Y_l(r̂_ij) it sees the products
    A_cl · A_c'l. It passes no messages: its reach is one cutoff.
    """

    def __init__(self, config: PETConfig, n_species: int, n_scalars: int) -> None:
        super().__init__()
        self.n_channels = N_CHANNELS
        n_functions = N_CHANNELS * (MAX_L + 1)
        self.pairs = PairTable(config.cutoff, n_species, n_functions)
        self.harmonics = nn.ModuleList(
            MaximalCoupling((order, 1)) for order in range(MAX_L + 1)
        )
        upper = torch.triu_indices(N_CHANNELS, N_CHANNELS)
        self.register_buffer(
            "upper", upper[0] * N_CHANNELS + upper[1], persistent=False
        )
        n_invariants = N_CHANNELS + (MAX_L + 1) * upper.shape[1]
        self.norm = nn.LayerNorm(n_invariants)
        self.first = nn.Linear(n_invariants, WIDTH)
        self.species = nn.Embedding(n_species, WIDTH)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.last = nn.Linear(WIDTH, n_scalars)

    def forward(
        self, features: Features, graph: EdgeGraph
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Scalars [n_owned, n_scalars]; last features [n_owned, WIDTH]."""
        n_atoms = graph.structures.shape[0]
        unit = directions(graph, features)
        functions = self.pairs(features, graph)
        invariants: List[torch.Tensor] = []
        for order, harmonic in enumerate(self.harmonics):
            start = order * self.n_channels
            weights = functions[:, start : start + self.n_channels]
            values = weights.unsqueeze(2) * harmonic.harmonics(unit).unsqueeze(1)
            density = sum_by_center(values, features, n_atoms)
            if order == 0:
                invariants.append(density.flatten(1))
            products = torch.matmul(density, density.transpose(1, 2)).flatten(1)
            invariants.append(products.index_select(1, self.upper))
        hidden = self.first(self.norm(torch.cat(invariants, dim=1)))
        hidden = self.rest(hidden + self.species(graph.species[:n_atoms]))
        return self.last(hidden), hidden


class BasisReadout(nn.Module):
    """Scalars times a basis: T_λ = Σ_b s_b B_b."""

    def __init__(self, scalars: nn.Module, basis: VectorBasis) -> None:
        super().__init__()
        self.scalars = scalars
        self.basis = basis

    def forward(
        self, features: Features, graph: EdgeGraph, wants_last: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Blocks [n_owned, Σ(2λ + 1)]; last features of the scalars, wanted or not."""
        scalars, last = self.scalars(features, graph)
        start = 0
        blocks: List[torch.Tensor] = []
        for columns in self.basis(features, graph):
            stop = start + columns.shape[1]
            blocks.append((scalars[:, start:stop].unsqueeze(2) * columns).sum(dim=1))
            start = stop
        return torch.cat(blocks, dim=1), last

"""Readout: from node and edge features to the prediction of one target, per atom."""

import dataclasses
from typing import Any, List, Tuple

import torch
from torch import nn

from .config import PETConfig
from .graph import EdgeGraph
from .pet import Features
from .spherical import CARTESIAN_BLOCKS, cartesian_rows
from .tensors import Block


TARGET_KINDS = (
    "energy",
    "force",
    "stress",
    "generic",
    *CARTESIAN_BLOCKS,
    "spherical",
)
READOUTS = ("edge", "node", "exact", "direct")
MAX_ORDER = 4


@dataclasses.dataclass
class TargetSpec:
    """What a model predicts under one name.

    Attributes:
        name: e.g. ``energy``, ``energy/pbe0``, ``non_conservative_force``.
        kind: ``energy`` (summed over atoms, differentiated for forces), ``force`` and
            ``stress`` (direct heads), ``generic``, or a tensor: ``scalar``, ``vector``,
            ``axial_vector``, ``symmetric`` (3 by 3), ``matrix`` (3 by 3), or
            ``spherical``.
        n_components: numbers per atom: 1, 3, 9, or any for generic; those of a tensor's
            blocks are counted here.
        per_atom: whether the target belongs to atoms rather than to the structure.
        unit: of the predicted number.
        has_uncertainty: whether the model can tell the uncertainty of this target.
        n_members: size of the ensemble around it; needs ``has_uncertainty``.
        order: λ of a spherical target, 0 to 4.
        parity: of a spherical target: 1, or -1 for a pseudotensor.
        readout: where a tensor's scalars come from, see
            :mod:`petmad.model.tensor_readout`.
        lambda_columns: whether blocks of λ ≥ 2 see the neighbors' harmonics directly,
            without which they vanish on a centrosymmetric site.
        pair_terms: whether a tensor has terms of pairs of atoms beside its readout, see
            :mod:`petmad.model.pair_terms`.
        token_terms: whether it has terms linear in the network's tokens beside it, see
            :mod:`petmad.model.token_terms`.
        origin: what a charged structure's dipole refers to; for the record.
    """

    name: str = "energy"
    kind: str = "energy"
    n_components: int = 1
    per_atom: bool = False
    unit: str = "eV"
    has_uncertainty: bool = False
    n_members: int = 0
    order: int = 0
    parity: int = 1
    readout: str = "edge"
    lambda_columns: bool = True
    pair_terms: bool = False
    token_terms: bool = False
    origin: str = ""

    def __post_init__(self) -> None:
        if self.kind not in TARGET_KINDS:
            raise ValueError(
                f"`kind` of target {self.name!r} must be one of "
                f"{', '.join(TARGET_KINDS)}, got {self.kind!r}"
            )
        if self.n_members < 0 or (self.n_members > 0 and not self.has_uncertainty):
            raise ValueError(
                f"`n_members` of target {self.name!r} must be 0, or positive with "
                f"`has_uncertainty`, got {self.n_members}"
            )
        if self.readout not in READOUTS:
            raise ValueError(
                f"`readout` of target {self.name!r} must be one of "
                f"{', '.join(READOUTS)}, got {self.readout!r}"
            )
        if not 0 <= self.order <= MAX_ORDER or self.parity not in (1, -1):
            raise ValueError(
                f"`order` of target {self.name!r} must be 0 to {MAX_ORDER} and "
                f"`parity` 1 or -1, got {self.order} and {self.parity}"
            )
        if self.blocks:
            self.n_components = sum(2 * order + 1 for order, _ in self.blocks)

    @property
    def blocks(self) -> List[Block]:
        """Order and parity of each block of a tensor; empty for other targets."""
        if self.kind == "spherical":
            return [(self.order, self.parity)]
        return list(CARTESIAN_BLOCKS.get(self.kind, []))

    @property
    def reads_network(self) -> bool:
        """Whether PET's features matter; ``exact`` tensors have their own."""
        return not self.blocks or self.readout != "exact" or self.token_terms

    def rows(self) -> torch.Tensor:
        """Components as rows over the entries shown outside, orthonormal, float64.

        [n_components, n_entries]: xyz of vectors, matrices row by row; the identity for
        what is no Cartesian tensor.
        """
        if self.kind in CARTESIAN_BLOCKS:
            return cartesian_rows(self.kind)
        return torch.eye(self.n_components, dtype=torch.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


def _head(width: int, d_head: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, d_head), nn.SiLU(), nn.Linear(d_head, d_head), nn.SiLU()
    )


class SumOnCenters(nn.Module):
    """Sums of what edges carry on their centers, as a module for an export to swap."""

    def forward(
        self, base: torch.Tensor, centers: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Base [n_centers, w] + the rows [n_edges, w] of each center."""
        return base.index_add(0, centers, rows)


class Readout(nn.Module):
    """Heads of one target: ``Σ_layers [node part + Σ_j f_ij · edge part]`` per atom.

    Args:
        config: hyperparameters.
        n_node: numbers per atom.
        n_edge: numbers per edge, where they are not those to be summed on atoms.
    """

    def __init__(self, config: PETConfig, n_node: int, n_edge: int = 0) -> None:
        super().__init__()
        layers = range(config.n_readouts)
        self.on_centers = SumOnCenters()
        self.node_heads = nn.ModuleList(
            _head(config.d_node, config.d_head) for _ in layers
        )
        self.edge_heads = nn.ModuleList(
            _head(config.d_pet, config.d_head) for _ in layers
        )
        self.node_last = nn.ModuleList(nn.Linear(config.d_head, n_node) for _ in layers)
        self.edge_last = nn.ModuleList(
            nn.Linear(config.d_head, n_edge or n_node) for _ in layers
        )

    def scalars(
        self, features: Features, wants_last: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Summed over layers: [n_owned, n_node], and [n_kept, n_edge] times f_ij.

        And the last features, [n_owned, 2·R·d_head], if wanted.
        """
        n_owned = features.nodes[0].shape[0]
        nodes: List[torch.Tensor] = []
        edges: List[torch.Tensor] = []
        last: List[torch.Tensor] = []
        for i, (node_head, edge_head, node_last, edge_last) in enumerate(
            zip(self.node_heads, self.edge_heads, self.node_last, self.edge_last)
        ):
            node = node_head(features.nodes[i])
            edge = edge_head(features.edges[i])
            weights = features.weights[:, None].to(edge.dtype)  # lower under autocast
            nodes.append(node_last(node))
            edges.append(edge_last(edge) * weights)
            if wants_last:
                summed = torch.zeros_like(edge[:0].new_zeros([n_owned, edge.shape[1]]))
                last.append(node)
                last.append(
                    self.on_centers(summed, features.kept_centers, edge * weights)
                )
        return (
            torch.stack(nodes).sum(dim=0),
            torch.stack(edges).sum(dim=0),
            torch.cat(last, dim=1) if wants_last else weights.new_zeros([n_owned, 0]),
        )

    def forward(
        self, features: Features, graph: EdgeGraph, wants_last: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Prediction [n_owned, n_components]; last features [n_owned, 2·R·d_head].

        The latter are left out ([n_owned, 0]) unless wanted.
        """
        node, edge, last = self.scalars(features, wants_last)
        return self.on_centers(node, features.kept_centers, edge), last

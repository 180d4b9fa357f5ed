"""Readout: from node and edge features to the prediction of one target, per atom."""

import dataclasses
from typing import Any, List, Tuple

import torch
from torch import nn

from .config import PETConfig
from .pet import Features


TARGET_KINDS = ("energy", "force", "stress", "generic")


@dataclasses.dataclass
class TargetSpec:
    """What a model predicts under one name.

    Attributes:
        name: e.g. ``energy``, ``energy/pbe0``, ``non_conservative_force``.
        kind: ``energy`` (summed over atoms, differentiated for forces), ``force`` and
            ``stress`` (direct heads), or ``generic``.
        n_components: numbers per atom: 1, 3, 9, or any for generic.
        per_atom: whether the target belongs to atoms rather than to the structure.
        unit: of the predicted number.
        has_uncertainty: whether the model can tell the uncertainty of this target.
        n_members: size of the ensemble around it; needs ``has_uncertainty``.
    """

    name: str = "energy"
    kind: str = "energy"
    n_components: int = 1
    per_atom: bool = False
    unit: str = "eV"
    has_uncertainty: bool = False
    n_members: int = 0

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


def _head(width: int, d_head: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, d_head), nn.SiLU(), nn.Linear(d_head, d_head), nn.SiLU()
    )


class Readout(nn.Module):
    """Heads of one target: ``Σ_layers [node part + Σ_j f_ij · edge part]`` per atom."""

    def __init__(self, config: PETConfig, n_components: int) -> None:
        super().__init__()
        layers = range(config.n_readouts)
        self.n_components = n_components
        self.node_heads = nn.ModuleList(
            _head(config.d_node, config.d_head) for _ in layers
        )
        self.edge_heads = nn.ModuleList(
            _head(config.d_pet, config.d_head) for _ in layers
        )
        self.node_last = nn.ModuleList(
            nn.Linear(config.d_head, n_components) for _ in layers
        )
        self.edge_last = nn.ModuleList(
            nn.Linear(config.d_head, n_components) for _ in layers
        )

    def forward(self, features: Features) -> Tuple[torch.Tensor, torch.Tensor]:
        """Prediction [n_owned, n_components]; last features [n_owned, 2·R·d_head]."""
        n_owned = features.nodes[0].shape[0]
        weights = features.weights[:, None]
        prediction = torch.zeros(
            n_owned, self.n_components, dtype=weights.dtype, device=weights.device
        )
        last: List[torch.Tensor] = []
        for i, (node_head, edge_head, node_last, edge_last) in enumerate(
            zip(self.node_heads, self.edge_heads, self.node_last, self.edge_last)
        ):
            node = node_head(features.nodes[i])
            edge = edge_head(features.edges[i])
            prediction = prediction + node_last(node)
            prediction = prediction.index_add(
                0, features.kept_centers, edge_last(edge) * weights
            )
            summed = torch.zeros_like(edge[:0].new_zeros([n_owned, edge.shape[1]]))
            last.append(node)
            last.append(summed.index_add(0, features.kept_centers, edge * weights))
        return prediction, torch.cat(last, dim=1)

"""What a conversion found, for people and for the provenance of the new file."""

import dataclasses
from typing import Any

from petmad.model import PETConfig

from .upgrades import NEWEST


@dataclasses.dataclass
class Report:
    """What was in an upstream checkpoint and what became of it."""

    version: int
    """of the file, before upgrades"""
    kind: str
    atomic_numbers: list[int]
    hypers: dict[str, Any]
    dtype: str
    n_parameters: int
    found: list[str]
    """all targets of the file"""
    sources: list[str]
    """what was kept, under the file's names, the energy first"""
    kept: list[str]
    """the same, under the new model's names"""
    notes: list[str]
    uncertainty: str = "none"
    upstream_metadata: str = ""
    """JSON text: name, authors, references"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, without what a model file tells anyway."""
        told = ("atomic_numbers", "hypers", "n_parameters")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in told}

    def format(self) -> str:
        """Several lines for a terminal."""
        hypers = self.hypers
        sizes = ", ".join(
            f"{name} {hypers[name]}"
            for name in (
                "d_pet",
                "d_node",
                "d_head",
                "d_feedforward",
                "num_heads",
                "num_gnn_layers",
                "num_attention_layers",
            )
        )
        neighbors = hypers["num_neighbors_adaptive"]
        cutoff = f"{hypers['cutoff']} Å, {hypers['cutoff_function']}"
        if neighbors is not None:
            method = hypers["adaptive_cutoff_method"]
            cutoff += f", adaptive to {neighbors} neighbors ({method})"
        passed = [str(v) for v in range(self.version, NEWEST + 1)]
        dropped = [name for name in self.found if name not in self.sources]
        lines = [
            f"architecture: {self.kind}",
            f"sizes:        {sizes}; {self.n_parameters} parameters, {self.dtype}",
            f"cutoff:       {cutoff}",
            f"species:      Z = {' '.join(map(str, self.atomic_numbers))}",
            f"targets:      {', '.join(self.found)}",
            f"energy:       {self.sources[0]}",
            f"kept:         {', '.join(self.kept)}",
            f"dropped:      {', '.join(dropped) or 'none'}",
            f"uncertainty:  {self.uncertainty}",
            f"versions:     {' > '.join(passed)}",
        ]
        return "\n".join(lines + [f"note:         {note}" for note in self.notes])


def describe_kind(config: PETConfig) -> str:
    """Which of the published families a model belongs to."""
    key = (config.featurizer_type, config.transformer_type, config.normalization)
    is_current = key == ("feedforward", "PreLN", "RMSNorm") and config.is_expanded
    if is_current and config.activation == "SwiGLU":
        return "A (current)" if config.is_adaptive else "A (current), fixed cutoff"
    if key == ("residual", "PostLN", "LayerNorm") and config.activation == "SiLU":
        return "B (classic)"
    return f"other ({', '.join(key)}, {config.activation})"

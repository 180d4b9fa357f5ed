"""Hyperparameters of a PET model: names, defaults and checks.

The names and defaults are upstream's (metatrain 2026.4, architecture ``pet``), so that
a checkpoint's hyperparameters can be read as they stand.
"""

import dataclasses
from typing import Any, Optional


CUTOFF_FUNCTIONS = ("Bump", "Cosine")
ADAPTIVE_METHODS = ("solver", "grid")
NORMALIZATIONS = ("RMSNorm", "LayerNorm")
ACTIVATIONS = ("SwiGLU", "SiLU")
TRANSFORMER_TYPES = ("PreLN", "PostLN")
FEATURIZER_TYPES = ("feedforward", "residual")


@dataclasses.dataclass
class PETConfig:
    """Hyperparameters of the network; lengths in Å, energies in eV.

    Raises:
        ValueError: from ``__post_init__`` if a value is not one PET knows.
    """

    cutoff: float = 4.5
    """Radius of the raw neighbor list, the upper bound of every cutoff [Å]."""
    num_neighbors_adaptive: Optional[int] = None
    """Neighbors each atom's own cutoff aims at; without, one fixed cutoff."""
    adaptive_cutoff_method: str = "solver"
    """How an adaptive cutoff is found: ``solver`` or ``grid``."""
    cutoff_function: str = "Bump"
    """Smoothing of an edge near its cutoff: ``Bump`` or ``Cosine``."""
    cutoff_width: float = 0.5
    """Width of that smoothing [Å]."""
    cutoff_width_adaptive: float = 1.0
    """Width of the smoothing used while counting neighbors [Å]."""
    d_pet: int = 128
    """Width of edge messages and attention tokens."""
    d_head: int = 128
    """Width of the readout heads."""
    d_node: int = 256
    """Width of node states."""
    d_feedforward: int = 256
    """Inner width of the transformer MLPs."""
    num_heads: int = 8
    """Attention heads; divides d_pet."""
    num_attention_layers: int = 2
    """Transformer layers inside one GNN layer."""
    num_gnn_layers: int = 2
    """GNN layers (rounds of message passing)."""
    normalization: str = "RMSNorm"
    """Norm inside the transformer layers: ``RMSNorm`` or ``LayerNorm``."""
    activation: str = "SwiGLU"
    """MLP inside the transformer layers: ``SwiGLU`` or ``SiLU``."""
    attention_temperature: float = 1.0
    """Divides the attention scores."""
    transformer_type: str = "PreLN"
    """Where the norms sit: ``PreLN`` or ``PostLN``."""
    featurizer_type: str = "feedforward"
    """``feedforward`` (combined messages, one readout) or ``residual``."""
    zbl: bool = False
    """Add the ZBL short-range repulsion."""
    long_range: Optional[dict] = None
    """Refused when enabled: no published model uses it."""
    system_conditioning: bool = False
    """Condition on total charge and spin multiplicity."""
    max_charge: int = 10
    """Largest |charge| when conditioned."""
    max_spin_multiplicity: int = 10
    """Largest 2S + 1 when conditioned."""

    def __post_init__(self) -> None:
        for name, allowed, any_case in (
            ("cutoff_function", CUTOFF_FUNCTIONS, True),
            ("adaptive_cutoff_method", ADAPTIVE_METHODS, True),
            ("activation", ACTIVATIONS, True),
            ("normalization", NORMALIZATIONS, False),
            ("transformer_type", TRANSFORMER_TYPES, False),
            ("featurizer_type", FEATURIZER_TYPES, False),
        ):
            setattr(self, name, _choose(name, getattr(self, name), allowed, any_case))
        for name, lowest in (
            ("d_pet", 1),
            ("d_head", 1),
            ("d_node", 1),
            ("d_feedforward", 1),
            ("num_heads", 1),
            ("num_attention_layers", 1),
            ("num_gnn_layers", 1),
            ("max_charge", 0),
            ("max_spin_multiplicity", 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < lowest:
                raise ValueError(
                    f"`{name}` must be a whole number of at least {lowest}, "
                    f"got {value!r}"
                )
        for name in (
            "cutoff",
            "cutoff_width",
            "cutoff_width_adaptive",
            "attention_temperature",
        ):
            if not float(getattr(self, name)) > 0:
                raise ValueError(
                    f"`{name}` must be positive, got {getattr(self, name)}"
                )
        if self.d_pet % self.num_heads != 0:
            raise ValueError(
                f"`num_heads` must divide `d_pet`, got num_heads {self.num_heads} and "
                f"d_pet {self.d_pet}"
            )
        if self.num_neighbors_adaptive is not None and self.num_neighbors_adaptive <= 0:
            raise ValueError(
                "`num_neighbors_adaptive` must be positive or None, got "
                f"{self.num_neighbors_adaptive}"
            )
        if self.long_range is not None and self.long_range.get("enable", False):
            raise ValueError(
                "long-range electrostatics (`long_range.enable`) is not supported by "
                "petmad: no published PET model uses it; set `long_range.enable: false`"
            )

    @property
    def is_adaptive(self) -> bool:
        """Whether each atom has its own cutoff."""
        return self.num_neighbors_adaptive is not None

    @property
    def is_expanded(self) -> bool:
        """Whether node states are wider than edge messages."""
        return self.d_node != self.d_pet

    @property
    def n_readouts(self) -> int:
        """Readout layers: one, or one per GNN layer in ``residual`` models."""
        return self.num_gnn_layers if self.featurizer_type == "residual" else 1

    @property
    def reach_hops(self) -> int:
        """Kept edges between an atom and the farthest atom its energy can feel.

        The last combination of a ``feedforward`` model reads reversed edges once more.
        """
        return self.num_gnn_layers + (1 if self.featurizer_type == "feedforward" else 0)

    @property
    def reach(self) -> float:
        """Upper bound of the receptive field [Å]; adaptive cutoffs add one cutoff."""
        return self.cutoff * (self.reach_hops + (1 if self.is_adaptive else 0))

    def to_dict(self) -> dict[str, Any]:
        """All hyperparameters as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PETConfig":
        """Build from a mapping of hyperparameter names.

        Raises:
            ValueError: a name is unknown; the message lists the known ones.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"unknown PET hyperparameters {unknown}; the known ones are "
                f"{sorted(known)}"
            )
        return cls(**values)


def _choose(name: str, value: str, allowed: tuple[str, ...], any_case: bool) -> str:
    """The allowed spelling of `value`, or a ValueError naming the choices."""
    for choice in allowed:
        if value == choice or (any_case and str(value).lower() == choice.lower()):
            return choice
    raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")

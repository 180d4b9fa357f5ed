"""Options of a tensor target and its loss."""

from typing import Literal

import pydantic

from petmad.model import TargetSpec

from .loss_options import LossTerm
from .section import Section


class TensorOptions(Section):
    """A tensor target beside the energy, or instead of it."""

    kind: Literal[
        "scalar", "vector", "axial_vector", "symmetric", "matrix", "spherical"
    ]
    """What it is; ``symmetric`` and ``matrix`` are 3 by 3."""
    key: str | None = None
    """Its name in the files, in ``info`` or ``arrays``; by default the target's."""
    per_atom: bool = False
    """Whether it belongs to atoms; else to structures, as a sum over their atoms."""
    unit: str = ""
    """Unit, for tables."""
    order: int = pydantic.Field(0, ge=0, le=4)
    """Order of a spherical target, of 2 order + 1 numbers."""
    parity: Literal[1, -1] = 1
    """Of a spherical target; -1 for a pseudotensor."""
    readout: Literal["edge", "node", "exact", "direct"] = "edge"
    """Where the scalars come from: PET's edge tokens; PET's atoms, for a basis of
    learned vectors; an exactly invariant power spectrum, for the same basis; or direct,
    no basis, with components as plain numbers."""
    lambda_columns: bool = True
    """Let blocks of order 2 and higher see the neighbors' harmonics directly."""
    pair_terms: bool = False
    """Fit what pairs of atoms alone tell, by least squares, before training; the
    network learns the rest. Helps where the density within the cutoff matters."""
    token_terms: bool = False
    """Likewise what is linear in the network's tokens, which must be kept
    (``training.parameters: heads``): most of what it knows, in seconds."""
    origin: (
        Literal["center_of_mass", "center_of_nuclear_charge", "independent"] | None
    ) = None
    """What the vectors of charged structures refer to; needed with such structures."""
    size_exponent: float = pydantic.Field(1.0, ge=0, le=1)
    """Residuals of structures are divided by this power of their number of atoms; 0
    where the target does not grow with the structure."""
    block_weights: list[pydantic.NonNegativeFloat] | None = None
    """Factors of the blocks' loss terms, scalar block first; by default all 1."""
    loss: LossTerm = LossTerm()
    """Term of the loss, in units of each block's scale."""
    spread_weight: float = pydantic.Field(0.0, ge=0)
    """Further weight of the spread over rotations in the mean squared error. Above 0,
    each step evaluates its structures twice, in two orientations."""

    @pydantic.model_validator(mode="after")
    def _has_a_spread_to_weigh(self) -> "TensorOptions":
        if self.spread_weight > 0 and self.readout == "exact" and not self.token_terms:
            raise ValueError(
                f"`spread_weight` is {self.spread_weight:g}, but `readout: exact` has "
                "no spread over rotations; leave one of them out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _has_a_weight_per_block(self) -> "TensorOptions":
        n_blocks = len(self.spec("").blocks)
        if self.block_weights is not None and len(self.block_weights) != n_blocks:
            raise ValueError(
                f"`block_weights` must hold one number per block, {n_blocks} for kind "
                f"{self.kind}, got {len(self.block_weights)}"
            )
        return self

    @property
    def has_weight(self) -> bool:
        """Whether any of its blocks enters the loss."""
        blocks = self.block_weights
        return self.loss.weight > 0 and (blocks is None or any(blocks))

    def spec(self, name: str) -> TargetSpec:
        """The target as the model has it."""
        return TargetSpec(
            name,
            self.kind,
            per_atom=self.per_atom,
            unit=self.unit,
            order=self.order,
            parity=self.parity,
            readout=self.readout,
            lambda_columns=self.lambda_columns,
            pair_terms=self.pair_terms,
            token_terms=self.token_terms,
            origin=self.origin or "",
        )

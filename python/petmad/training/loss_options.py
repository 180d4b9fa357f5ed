"""Options of the loss of energies, forces and stresses, direct heads included."""

from typing import Literal

import pydantic

from .section import Section


class LossTerm(Section):
    """One term of the loss."""

    weight: float = pydantic.Field(1.0, ge=0)
    """Factor of the term; 0 leaves it out."""
    kind: Literal["mse", "mae", "huber"] = "mse"
    """Squared, absolute, or Huber loss."""
    delta: float = pydantic.Field(1.0, gt=0)
    """Where the Huber loss turns linear, in the units of the loss."""


class DirectTerm(LossTerm):
    """A term of a direct head, left out unless it has a weight."""

    weight: float = pydantic.Field(0.0, ge=0)
    """Factor of the term; 0 leaves out the head."""


class LossOptions(Section):
    """Loss: energies and strain gradients per atom, and force components."""

    units: Literal["scale", "physical"] = "scale"
    """Of residuals and ``delta``: the energy scale, or eV and eV/Å."""
    energy: LossTerm = LossTerm()
    """Energy per atom."""
    forces: LossTerm = LossTerm()
    """Force components."""
    stress: LossTerm = LossTerm()
    """Strain gradient per atom, where the data have a stress."""
    direct_forces: DirectTerm = DirectTerm()
    """Force components of a direct head, no gradient of the energy; with a weight, the
    model gets that head. In units of the root mean square force."""
    direct_stress: DirectTerm = DirectTerm()
    """Likewise the strain gradient per atom, in units of its root mean square."""

    @property
    def needs_gradients(self) -> bool:
        """Whether the energy must be differentiated; without, a step is much faster."""
        return self.forces.weight > 0 or self.stress.weight > 0

    @property
    def weighted(self) -> set[str]:
        """Names of the terms that have a weight."""
        names = ("energy", "forces", "stress", "direct_forces", "direct_stress")
        return {name for name in names if getattr(self, name).weight > 0}

    @property
    def terms(self) -> tuple[LossTerm, LossTerm, LossTerm]:
        """Of energy, forces and stress."""
        return self.energy, self.forces, self.stress

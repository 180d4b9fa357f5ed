"""What direct heads say of one structure, and how far it is from the labels.

They are compared with the labels of the main energy, and with no others: that is the
level they are trained on.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from .direct import FORCE, STRESS
from .loss import Labels
from .metrics import Errors


HEADS = (FORCE.name, STRESS.name)
UNITS = {"direct_forces": "meV/Å", "direct_strain": "meV/atom"}


class Direct(NamedTuple):
    """Predictions of direct heads, as they come: no mean force is removed; or None.

    Attributes:
        forces: [n_atoms, 3] float64 eV/Å.
        strain_gradients: [1, 3, 3] float64 eV, stress times volume.
    """

    forces: torch.Tensor | None
    strain_gradients: torch.Tensor | None


def direct_of(outputs: Mapping[str, torch.Tensor]) -> Direct:
    """From values of one structure's atoms, by name of the head."""
    stress = outputs.get(STRESS.name)
    if stress is not None:
        stress = stress.double().sum(0).reshape(1, 3, 3)
    forces = outputs.get(FORCE.name)
    return Direct(None if forces is None else forces.double(), stress)


class DirectErrors:
    """Running errors of direct heads; empty where there are none."""

    def __init__(self) -> None:
        self._errors = Errors()

    def add(self, direct: Direct, labels: Labels) -> None:
        """Add a structure; ``labels`` are the true ones."""
        pairs = [
            (_unknown(label), _unknown(label)) if value is None else (value, label)
            for value, label in zip((None, *direct), labels, strict=True)
        ]
        n_atoms = torch.tensor([len(labels.forces)])
        self._errors.add(*(Labels(*part) for part in zip(*pairs, strict=True)), n_atoms)

    def compute(self) -> dict[str, float]:
        """``direct_forces_mae``, ``direct_strain_rmse`` ... of what is known."""
        found = {f"direct_{k}": value for k, value in self._errors.compute().items()}
        return {k: v for k, v in found.items() if k.rpartition("_")[0] in UNITS}


def _unknown(label: torch.Tensor) -> torch.Tensor:
    return torch.full_like(label, float("nan"))

"""Errors of a model on a labelled file."""

import dataclasses
from pathlib import Path
from typing import Protocol

import torch
from petmad.data import Sample, collate, make_sample, read_structures
from petmad.data.structures import LabelKeys, check_species
from petmad.model import Potential

from .loss import Labels, predict
from .metrics import Errors


class Predictor(Protocol):
    """Anything that predicts a sample in eV; see :class:`EagerPredictor`."""

    atomic_numbers: list[int]
    cutoff: float

    def __call__(self, sample: Sample) -> Labels:
        """Energy, forces and strain gradient of one structure."""
        ...


@dataclasses.dataclass
class EagerPredictor:
    """The model of a checkpoint in plain torch."""

    potential: Potential

    @property
    def atomic_numbers(self) -> list[int]:
        """Z of each species."""
        return self.potential.atomic_numbers

    @property
    def cutoff(self) -> float:
        """Radius of the neighbor list [Å]."""
        return self.potential.config.cutoff

    def __call__(self, sample: Sample) -> Labels:
        """Energy, forces and strain gradient of one structure."""
        labels = predict(self.potential, collate([sample]).graph)
        return Labels(*(value.detach() for value in labels))


def evaluate(
    predictor: Predictor, file: str | Path, keys: LabelKeys | None = None
) -> dict[str, float]:
    """Errors on the structures of a file; names as in :class:`petmad.training.metrics.Errors`.

    Raises:
        ValueError: labels are missing or wrong, or an element is unknown to the model.
    """
    structures = read_structures(file, keys)
    check_species(structures, predictor.atomic_numbers)
    errors = Errors()
    for structure in structures:
        sample = make_sample(structure, predictor.atomic_numbers, predictor.cutoff)
        batch = collate([sample])
        truth = Labels(batch.energies, batch.forces, batch.strain_gradients)
        errors.add(predictor(sample), truth, torch.tensor([len(sample.species)]))
    return errors.compute()


def format_errors(errors: dict[str, float]) -> str:
    """A table of mean absolute and root mean square errors."""
    units = {"energy": "meV/atom", "forces": "meV/Å", "strain": "meV/atom"}
    lines = [f"{'':8} {'MAE':>10} {'RMSE':>10}"]
    for name, unit in units.items():
        if f"{name}_mae" in errors:
            mae, rmse = errors[f"{name}_mae"], errors[f"{name}_rmse"]
            lines.append(f"{name:8} {mae:10.3f} {rmse:10.3f}  {unit}")
    return "\n".join(lines)

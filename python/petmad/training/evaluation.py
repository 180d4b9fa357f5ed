"""Errors of a model, checkpoint or exported, on a labelled file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from petmad.data import Structure, collate, make_sample, read_structures
from petmad.data.structures import LabelKeys, check_species
from petmad.model import Potential

from . import checkpoint
from .loss import ENERGY, Labels, Levels, predict_with
from .metrics import UNITS, Errors


class Predictor(NamedTuple):
    """A model as evaluation sees it.

    Attributes:
        atomic_numbers: elements it knows.
        labels: energy, forces and strain gradient of one structure, in eV and Å.
        has_energy: whether there is an energy at all, or tensor targets alone.
    """

    atomic_numbers: list[int]
    labels: Callable[[Structure], Labels]
    has_energy: bool = True


def load_predictor(path: str | Path) -> Predictor:
    """The model of a checkpoint in plain torch, or an exported file in the C++ engine.

    Raises:
        ValueError: the file is neither.
    """
    if Path(path).suffix == ".ckpt":
        return _eager_predictor(path)
    return _engine_predictor(path)


def _eager_predictor(path: str | Path) -> Predictor:
    potential, _ = checkpoint.load_potential(path)
    return potential_predictor(potential)


def potential_predictor(potential: Potential, name: str = ENERGY) -> Predictor:
    """A model in plain torch; ``name`` is the energy to predict."""
    numbers, cutoff = potential.atomic_numbers, potential.config.cutoff

    def labels(structure: Structure) -> Labels:
        graph = collate([make_sample(structure, numbers, cutoff)]).graph
        levels = Levels([name], torch.zeros(1, dtype=torch.int64))
        predicted, _ = predict_with(potential, graph, [], levels=levels)
        return Labels(*(value.detach() for value in predicted))

    return Predictor(numbers, labels, name in potential.target_names)


def _engine_predictor(path: str | Path) -> Predictor:
    from petmad._engine import Engine

    engine = Engine(str(path), "cpu", 0, True)
    numbers = list(engine.info.atomic_numbers)

    def labels(structure: Structure) -> Labels:
        results = engine.evaluate(
            structure.positions,
            np.searchsorted(numbers, structure.atomic_numbers).astype(np.int32),
            structure.cell,
            structure.pbc,
            charge=structure.charge,
            spin_multiplicity=structure.spin_multiplicity,
        )
        return Labels(
            torch.tensor([results["energy"]], dtype=torch.float64),
            torch.from_numpy(np.array(results["forces"])),
            -torch.from_numpy(np.array(results["virial"]))[None],
        )

    return Predictor(numbers, labels)


def evaluate(
    predictor: Predictor, file: str | Path, keys: LabelKeys | None = None
) -> dict[str, float]:
    """Errors on the structures of a file, in meV/atom and meV/Å.

    Args:
        predictor: the model.
        file: extended XYZ; frames without forces or stress count for the others.
        keys: names of the labels.

    Returns:
        Named as by :class:`petmad.training.metrics.Errors`.

    Raises:
        ValueError: labels are missing or wrong, or the model lacks an element.
    """
    structures = read_structures(file, keys, needs_forces=False)
    return evaluate_structures(predictor, structures)


def evaluate_structures(
    predictor: Predictor, structures: Sequence[Structure]
) -> dict[str, float]:
    """:func:`evaluate` of structures that were read."""
    check_species(structures, predictor.atomic_numbers)
    errors = Errors()
    for structure in structures:
        n_atoms = torch.tensor([len(structure.atomic_numbers)])
        errors.add(predictor.labels(structure), _true_labels(structure), n_atoms)
    return errors.compute()


def _true_labels(structure: Structure) -> Labels:
    energy, forces, strain_gradients = structure.labels()
    return Labels(
        torch.tensor([energy], dtype=torch.float64),
        torch.from_numpy(forces),
        torch.from_numpy(strain_gradients)[None],
    )


def format_errors(errors: dict[str, float]) -> str:
    """A table of mean absolute and root mean square errors."""
    lines = [f"{'':8} {'MAE':>10} {'RMSE':>10}"]
    for name, unit in UNITS.items():
        if f"{name}_mae" in errors:
            mae, rmse = errors[f"{name}_mae"], errors[f"{name}_rmse"]
            lines.append(f"{name:8} {mae:10.3f} {rmse:10.3f}  {unit}")
    return "\n".join(lines)

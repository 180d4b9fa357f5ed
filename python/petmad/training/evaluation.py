"""Errors of a model, checkpoint or exported, on a labelled file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from petmad.data import Structure, collate, make_sample, read_structures
from petmad.data.structures import LabelKeys, check_species
from petmad.model import Potential

from . import checkpoint
from .device import choose_device, device_of, engine_device, moved
from .direct_errors import HEADS, Direct, direct_of
from .direct_errors import UNITS as DIRECT_UNITS
from .loss import ENERGY, Labels, Levels, fold, predict_with
from .metrics import UNITS, Errors


ALL_UNITS = {**UNITS, **DIRECT_UNITS}
"""Unit of each error that may be told."""


class Prediction(NamedTuple):
    """What a model says of one structure.

    Attributes:
        labels: energy, forces and strain gradient, in eV and Å; None where energies
            are not predicted.
        deviation: standard deviation of the energy [eV], NaN where the model has none.
        direct: forces and strain gradient of direct heads.
        tensors: Cartesian entries [1 or n_atoms, n_entries] of tensor targets by name,
            in their units; those of spherical ones are their components.
    """

    labels: Labels | None = None
    deviation: float = float("nan")
    direct: Direct = Direct(None, None)
    tensors: Mapping[str, np.ndarray] = MappingProxyType({})


class Predictor(NamedTuple):
    """A model as evaluation sees it.

    Attributes:
        atomic_numbers: elements it knows.
        predict: what it says of one structure.
        has_energy: whether there is an energy at all, or tensor targets alone.
    """

    atomic_numbers: list[int]
    predict: Callable[[Structure], Prediction]
    has_energy: bool = True


def load_predictor(
    path: str | Path, target: str = ENERGY, device: str = "cpu"
) -> Predictor:
    """The model of a checkpoint in plain torch, or an exported file in the C++ engine.

    Or a file of ``petmad export --aoti``, which holds code for processors alone.

    Args:
        path: of any of them.
        target: the energy to predict.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: the file is none of them, or has other energies, but not this one;
            or no such device is here, or the file cannot use it.
    """
    if Path(path).suffix == ".ckpt":
        potential, _ = checkpoint.load_potential(path)
        energies = [spec.name for spec in potential.targets if spec.kind == "energy"]
        if target != ENERGY and target not in energies:
            raise ValueError(
                f"{path} has no energy {target!r}; it has {energies}; tensors are "
                "compared without being named"
            )
        return potential_predictor(potential.to(choose_device(device)), target)
    if target != ENERGY:
        raise ValueError(
            f"an exported file runs its main energy, not {target!r}; give a checkpoint"
        )
    if Path(path).suffix == ".pt2":
        if device not in ("auto", "cpu"):
            raise ValueError(
                f"{path} holds machine code for processors, which {device!r} does not "
                "run; use cpu, or give the checkpoint or a file of `petmad export`"
            )
        return _ahead_predictor(path)
    return _engine_predictor(path, engine_device(device))


def potential_predictor(potential: Potential, name: str = ENERGY) -> Predictor:
    """A model in plain torch, evaluated where it is; ``name`` is the energy to predict.

    Predictions are on the CPU.
    """
    numbers, cutoff = potential.atomic_numbers, potential.config.cutoff
    output = f"{name}_uncertainty"
    outputs = [output] if output in potential.output_names else []
    heads = [h for h in HEADS if name == ENERGY and h in potential.target_names]
    device = device_of(potential)

    def predict(structure: Structure) -> Prediction:
        graph = collate([make_sample(structure, numbers, cutoff)]).graph
        graph = moved(graph, device)
        levels = Levels([name], torch.zeros(1, dtype=torch.int64, device=device))
        predicted, others = predict_with(
            potential, graph, outputs + heads, levels=levels
        )
        labels = Labels(*(value.detach().cpu() for value in predicted))
        direct = direct_of({head: others[head].detach().cpu() for head in heads})
        if not outputs:
            return Prediction(labels, direct=direct)
        return Prediction(labels, float(others[output].detach().sum(0).norm()), direct)

    return Predictor(numbers, predict, name in potential.target_names)


def _ahead_predictor(path: str | Path) -> Predictor:
    from petmad.aoti import AheadModel

    model = AheadModel(path)

    def predict(structure: Structure) -> Prediction:
        sample = make_sample(structure, model.atomic_numbers, model.cutoff)
        graph = collate([sample]).graph
        energies, gradient = model(graph)
        return Prediction(fold(energies.sum()[None], gradient, graph))

    return Predictor(model.atomic_numbers, predict)


def _engine_predictor(path: str | Path, device: str) -> Predictor:
    from petmad._engine import Engine

    engine = Engine(str(path), device, 0, True)
    numbers = list(engine.info.atomic_numbers)
    output = f"{ENERGY}_uncertainty"
    outputs = [output] if output in engine.info.outputs else []
    heads = [head for head in HEADS if head in engine.info.outputs]

    def predict(structure: Structure) -> Prediction:
        results = engine.evaluate(
            structure.positions,
            np.searchsorted(numbers, structure.atomic_numbers).astype(np.int32),
            structure.cell,
            structure.pbc,
            charge=structure.charge,
            spin_multiplicity=structure.spin_multiplicity,
            outputs=outputs + heads,
        )
        labels = Labels(
            torch.tensor([results["energy"]], dtype=torch.float64),
            torch.from_numpy(np.array(results["forces"])),
            -torch.from_numpy(np.array(results["virial"]))[None],
        )
        rows = {head: torch.tensor(results["outputs"][head]) for head in heads}
        direct = direct_of(rows)
        if not outputs:
            return Prediction(labels, direct=direct)
        deviation = np.linalg.norm(results["sums"][output])
        return Prediction(labels, float(deviation), direct)

    return Predictor(numbers, predict, engine.info.has_energy)


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
        errors.add(predictor.predict(structure).labels, true_labels(structure), n_atoms)
    return errors.compute()


def true_labels(structure: Structure) -> Labels:
    """Labels of a structure as tensors; NaN where unknown."""
    energy, forces, strain_gradients = structure.labels()
    return Labels(
        torch.tensor([energy], dtype=torch.float64),
        torch.from_numpy(forces),
        torch.from_numpy(strain_gradients)[None],
    )


def format_errors(errors: dict[str, float]) -> str:
    """A table of mean absolute and root mean square errors."""
    rows = []
    for name, unit in ALL_UNITS.items():
        if f"{name}_mae" in errors:
            mae, rmse = errors[f"{name}_mae"], errors[f"{name}_rmse"]
            rows.append((name.replace("_", " "), f"{mae:10.3f} {rmse:10.3f}  {unit}"))
    width = max([8, *(len(name) for name, _ in rows)])
    lines = [f"{'':{width}} {'MAE':>10} {'RMSE':>10}"]
    lines += [f"{name:{width}} {numbers}" for name, numbers in rows]
    return "\n".join(lines)

"""Predictions as frames: what a file had, its labels, and what a model says."""

from collections.abc import Sequence

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import per_atom_properties
from ase.stress import full_3x3_to_voigt_6_stress

from petmad.data import Structure
from petmad.data.files import stream_frames
from petmad.model import TargetSpec

from .evaluation import Prediction
from .labelled import has_energy, has_tensor


PREDICTED = ("energy", "forces", "stress")
WRITTEN = (*PREDICTED, *(f"reference_{p}" for p in PREDICTED), "energy_uncertainty")
"""Names that the file's own entries give way to."""
KINDS = "bifSU"
"""Of arrays that extended XYZ can hold, of one or two dimensions."""


def predicted_frames(
    structures: Sequence[Structure],
    predictions: Sequence[Prediction],
    tensors: Sequence[TargetSpec] = (),
) -> list[ase.Atoms]:
    """The frames that structures were read from, read again, with predictions.

    Args:
        structures: with their labels.
        predictions: of each.
        tensors: targets that were predicted, too.

    Raises:
        ValueError: a file is not what it was.
    """
    frames = {
        f"{file}, frame {i}": frame
        for file in dict.fromkeys(structure.file for structure in structures)
        for i, frame in enumerate(stream_frames(file))
    }
    return [
        predicted_frame(check_frame(frames.get(s.source), s), s, p, tensors)
        for s, p in zip(structures, predictions, strict=True)
    ]


def check_frame(frame: ase.Atoms | None, structure: Structure) -> ase.Atoms:
    """The frame, if it is that of the structure.

    Raises:
        ValueError: there is none, or another.
    """
    if (
        frame is None
        or not np.array_equal(frame.numbers, structure.atomic_numbers)
        or not np.array_equal(frame.positions, structure.positions)
    ):
        raise ValueError(
            f"{structure.source} is not what it was when it was evaluated; evaluate "
            "the file as it is now"
        )
    return frame


def predicted_frame(
    frame: ase.Atoms,
    structure: Structure,
    prediction: Prediction,
    tensors: Sequence[TargetSpec] = (),
) -> ase.Atoms:
    """A frame of a file with predictions as its results.

    Its labels [eV, Å] become ``reference_energy``, ``reference_forces`` and
    ``reference_stress``, its other results likewise; tensors have the same two names.
    Entries of ``info`` and ``arrays`` are kept, but for those of these names.

    Args:
        frame: as it was read.
        structure: the same, with its labels.
        prediction: of a model.
        tensors: targets that it predicts.
    """
    atoms = frame.copy()
    atoms.set_constraint()  # readers would take forces of fixed atoms for zero
    for name in WRITTEN:
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    for name, values in list(atoms.arrays.items()):
        if values.ndim > 2 or values.dtype.kind not in KINDS:
            del atoms.arrays[name]
    for name, value in references(frame, structure).items():
        is_per_atom = name.removeprefix("reference_") in per_atom_properties
        (atoms.arrays if is_per_atom else atoms.info)[name] = value
    if not np.isnan(prediction.deviation):
        atoms.info["energy_uncertainty"] = prediction.deviation
    if structure.charge != 0:
        atoms.info["charge"] = structure.charge
    if structure.spin_multiplicity != 1:
        atoms.info["spin_multiplicity"] = structure.spin_multiplicity
    atoms.info.setdefault("source", structure.source)
    for spec in tensors:
        name = spec.name
        add_tensor(atoms, f"predicted_{name}", spec, prediction.tensors[name])
        if has_tensor(structure, name):
            label = structure.tensors[name] @ spec.rows().numpy()
            add_tensor(atoms, f"reference_{name}", spec, label)
    atoms.calc = SinglePointCalculator(atoms, **results(structure, prediction))
    return atoms


def references(frame: ase.Atoms, structure: Structure) -> dict[str, np.ndarray | float]:
    """Labels of a structure, and other results of its frame, by their new names."""
    known = {} if frame.calc is None else frame.calc.results
    values = {name: value for name, value in known.items() if name not in PREDICTED}
    values |= {
        name: getattr(structure, name)
        for name in PREDICTED
        if getattr(structure, name) is not None
        and (name != "energy" or has_energy(structure))
    }
    return {f"reference_{name}": value for name, value in values.items()}


def results(
    structure: Structure, prediction: Prediction
) -> dict[str, np.ndarray | float]:
    """Predictions by ASE's names; a stress where there is a volume."""
    if prediction.labels is None:
        return {}
    values = {
        "energy": float(prediction.labels.energies[0]),
        "forces": prediction.labels.forces.numpy(),
    }
    if structure.volume > 0:
        strain = prediction.labels.strain_gradients[0].numpy()
        stress = 0.5 * (strain + strain.T) / structure.volume
        values["stress"] = full_3x3_to_voigt_6_stress(stress)
    return values


def add_tensor(atoms: ase.Atoms, name: str, spec: TargetSpec, rows: np.ndarray) -> None:
    """Entries [1 or n_atoms, n_entries] into an array, or into ``info``."""
    if spec.per_atom:
        atoms.arrays[name] = rows
    elif spec.kind in ("symmetric", "matrix"):
        atoms.info[name] = rows.reshape(3, 3)
    else:
        atoms.info[name] = float(rows[0, 0]) if spec.kind == "scalar" else rows[0]

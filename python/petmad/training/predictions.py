"""Predictions as frames: what a file had, its labels, and what a model says."""

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import per_atom_properties
from ase.stress import full_3x3_to_voigt_6_stress

from petmad.data import Structure

from .evaluation import Prediction


PREDICTED = ("energy", "forces", "stress")
WRITTEN = (*PREDICTED, *(f"reference_{p}" for p in PREDICTED), "energy_uncertainty")
"""Names that the file's own entries give way to."""
KINDS = "bifSU"
"""Of arrays that extended XYZ can hold, of one or two dimensions."""


def predicted_frame(
    frame: ase.Atoms, structure: Structure, prediction: Prediction
) -> ase.Atoms:
    """A frame of a file with predictions as its results.

    Its labels [eV, Å] become ``reference_energy``, ``reference_forces`` and
    ``reference_stress``, its other results likewise. Entries of ``info`` and ``arrays``
    are kept, but for those of these names.

    Args:
        frame: as it was read.
        structure: the same, with its labels.
        prediction: of a model.

    Raises:
        ValueError: the frame is not that of the structure.
    """
    if not np.array_equal(frame.numbers, structure.atomic_numbers) or not (
        np.array_equal(frame.positions, structure.positions)
    ):
        raise ValueError(
            f"{structure.source} is not what it was when it was evaluated; evaluate "
            "the file as it is now"
        )
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
    }
    return {f"reference_{name}": value for name, value in values.items()}


def results(
    structure: Structure, prediction: Prediction
) -> dict[str, np.ndarray | float]:
    """Predictions by ASE's names; a stress where there is a volume."""
    values = {
        "energy": float(prediction.labels.energies[0]),
        "forces": prediction.labels.forces.numpy(),
    }
    if structure.volume > 0:
        strain = prediction.labels.strain_gradients[0].numpy()
        stress = 0.5 * (strain + strain.T) / structure.volume
        values["stress"] = full_3x3_to_voigt_6_stress(stress)
    return values

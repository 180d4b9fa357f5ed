"""Errors taken apart: by component, by element, and by subset of the structures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from petmad.data import Structure

from .calibration import Calibration, calibrate
from .direct_errors import DirectErrors
from .evaluation import Prediction, true_labels
from .loss import Labels, per_atom_residuals
from .metrics import MILLI, Errors


VOIGT = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2)}
VOIGT["xy"] = (0, 1)


def residuals(structure: Structure, prediction: Prediction) -> Labels:
    """Predicted minus true in meV/atom and meV/Å; NaN where unknown."""
    n_atoms = torch.tensor([len(structure.atomic_numbers)])
    parts = per_atom_residuals(prediction.labels, true_labels(structure), n_atoms)
    strain = parts.strain_gradients
    parts = parts._replace(strain_gradients=0.5 * (strain + strain.transpose(1, 2)))
    return Labels(*(MILLI * part for part in parts))


def break_down(
    structures: Sequence[Structure], predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Errors as a whole and in parts, in meV/atom (energy, strain) and meV/Å (forces).

    Args:
        structures: with their labels; their group is the subset they belong to.
        predictions: of the same structures.

    Returns:
        ``overall``, as :meth:`petmad.training.metrics.Errors.compute` and
        :meth:`petmad.training.direct_errors.DirectErrors.compute` have it, and
        ``subsets`` of such, and ``files`` where there are several; ``components`` and
        ``elements`` with ``mae``, ``rmse`` and ``n`` of each; what is unknown is left
        out.
    """
    parts = [residuals(s, p) for s, p in zip(structures, predictions, strict=True)]
    forces = np.concatenate([part.forces.numpy() for part in parts])
    strains = np.concatenate([part.strain_gradients.numpy() for part in parts])
    numbers = np.concatenate([s.atomic_numbers for s in structures])
    components = {f"forces_{x}": forces[:, i] for i, x in enumerate("xyz")}
    components |= {f"strain_{x}": strains[:, i, j] for x, (i, j) in VOIGT.items()}
    elements = {
        chemical_symbols[int(z)]: forces[numbers == z] for z in np.unique(numbers)
    }
    files = [structure.file for structure in structures]
    return {
        "overall": _errors(structures, predictions),
        "components": _summaries(components),
        "elements": _summaries(elements),
        "subsets": _by_name([s.group for s in structures], structures, predictions),
        "files": _by_name(files, structures, predictions)
        if len(set(files)) > 1
        else {},
    }


def _by_name(
    names: Sequence[str],
    structures: Sequence[Structure],
    predictions: Sequence[Prediction],
) -> dict[str, dict[str, float]]:
    """Errors of the structures of each name, the empty one left out."""
    results = {}
    for name in dict.fromkeys(filter(None, names)):
        chosen = [i for i, other in enumerate(names) if other == name]
        results[name] = _errors(
            [structures[i] for i in chosen], [predictions[i] for i in chosen]
        )
    return results


def _errors(
    structures: Sequence[Structure], predictions: Sequence[Prediction]
) -> dict[str, float]:
    errors, direct = Errors(), DirectErrors()
    for structure, prediction in zip(structures, predictions, strict=True):
        n_atoms = torch.tensor([len(structure.atomic_numbers)])
        labels = true_labels(structure)
        errors.add(prediction.labels, labels, n_atoms)
        direct.add(prediction.direct, labels)
    return {**errors.compute(), **direct.compute()}


def _summaries(values: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean absolute and root mean square of what is known of each."""
    results = {}
    for name, array in values.items():
        known = array[~np.isnan(array)]
        if known.size:
            results[name] = {
                "mae": float(np.abs(known).mean()),
                "rmse": float(np.sqrt(np.square(known).mean())),
                "n": int(known.size),
            }
    return results


def uncertainty_quality(
    structures: Sequence[Structure], predictions: Sequence[Prediction]
) -> Calibration | None:
    """Energy errors per atom [eV] against deviations; None where there are none.

    Structures without a known energy are left out.
    """
    pairs = zip(structures, predictions, strict=True)
    pairs = [(s, p) for s, p in pairs if not np.isnan(s.energy)]
    structures, predictions = [s for s, _ in pairs], [p for _, p in pairs]
    deviations = np.array([prediction.deviation for prediction in predictions])
    if np.isnan(deviations).any():
        return None
    n_atoms = np.array([len(s.atomic_numbers) for s in structures])
    errors = [float(p.labels.energies[0]) - s.energy for s, p in pairs]
    return calibrate(deviations / n_atoms, np.array(errors) / n_atoms)

"""A converted model against reference numbers that somebody else has computed."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from petmad.calculator import PETMADCalculator


RENAMED = {
    "atomic_energies": "energies",
    "non_conservative_force": "non_conservative_forces",
}
"""Upstream's names of what ASE calls otherwise."""
TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""Relative to the largest number of a quantity, or to 1 if that is more."""


class Difference(NamedTuple):
    """One quantity, over all structures."""

    name: str
    largest: float
    """absolute difference"""
    scale: float
    """largest number of the reference, at least 1"""
    n_structures: int


def compare(model: str | Path, structures: str, reference: str) -> list[Difference]:
    """Evaluate a model file and compare.

    Args:
        model: exported file.
        structures: file of structures that ASE reads.
        reference: JSON: one mapping per structure, as a list or as the values of the
            mapping ``structures``, from names of properties to numbers. Known are
            energy [eV], energies, forces [eV/Å], stress [eV/Å³] and the model's further
            outputs; other entries are ignored.

    Raises:
        ValueError: the files do not fit each other, or have nothing to compare.
    """
    frames = ase.io.read(structures, index=":")
    wanted = _read_reference(reference)
    if len(frames) != len(wanted):
        raise ValueError(
            f"{structures} has {len(frames)} structures, {reference} has "
            f"{len(wanted)}; give one entry per structure, in the same order"
        )
    calculator = PETMADCalculator(model)
    found: dict[str, list[tuple[float, float]]] = {}
    for k, (atoms, numbers) in enumerate(zip(frames, wanted, strict=True)):
        for name, value in numbers.items():
            name = RENAMED.get(name, name)
            if name in calculator.implemented_properties and value is not None:
                pair = _difference(calculator, atoms, name, value, f"structure {k}")
                found.setdefault(name, []).append(pair)
    if not found:
        raise ValueError(
            f"{reference} has none of {', '.join(calculator.implemented_properties)}; "
            "there is nothing to compare"
        )
    worst = {name: np.max(pairs, axis=0) for name, pairs in found.items()}
    return [
        Difference(name, float(largest), max(1.0, float(scale)), len(found[name]))
        for name, (largest, scale) in worst.items()
    ]


def _read_reference(path: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"cannot read reference numbers from {path} ({error}); give a JSON file"
        ) from None
    if isinstance(content, dict):
        content = content.get("structures")
    if isinstance(content, dict):
        content = list(content.values())
    if not isinstance(content, list) or not all(isinstance(c, dict) for c in content):
        raise ValueError(
            f"{path} must hold one mapping per structure, as a list or as the values "
            "of `structures`"
        )
    return content


def _difference(
    calculator: PETMADCalculator, atoms: Any, name: str, value: Any, where: str
) -> tuple[float, float]:
    """Largest absolute difference and largest reference number."""
    ours = np.asarray(calculator.get_property(name, atoms), dtype=np.float64)
    theirs = np.asarray(value, dtype=np.float64)
    if name.endswith("stress") and theirs.size == 9:
        theirs = theirs.reshape(3, 3)
        theirs = full_3x3_to_voigt_6_stress(0.5 * (theirs + theirs.T))
    if theirs.size != ours.size:
        raise ValueError(
            f"`{name}` of {where} must have shape {list(ours.shape)}, got "
            f"{list(theirs.shape)}; do the files list the structures in one order?"
        )
    theirs = theirs.reshape(ours.shape)
    scale = float(np.abs(theirs).max(initial=0.0))
    return float(np.abs(ours - theirs).max(initial=0.0)), scale


def format_differences(differences: list[Difference]) -> str:
    """A table for people."""
    lines = [f"{'quantity':<28} {'largest difference':>18} {'of at most':>12} {'n':>5}"]
    lines += [
        f"{d.name:<28} {d.largest:>18.3e} {d.scale:>12.5g} {d.n_structures:>5}"
        for d in differences
    ]
    return "\n".join(lines)


def require(differences: list[Difference], tolerance: float) -> None:
    """Refuse differences above ``tolerance``, relative to each quantity's scale.

    Raises:
        ValueError: names the quantities; one that is not a number is above it, too.
    """
    far = [d for d in differences if not d.largest <= tolerance * d.scale]
    if far:
        found = ", ".join(f"{d.name} ({d.largest:.3e} of {d.scale:.5g})" for d in far)
        raise ValueError(
            f"the converted model differs from the reference in {found}, more than "
            f"{tolerance:g} relative; is the reference of this model, target and "
            "precision? `--tolerance` allows more"
        )

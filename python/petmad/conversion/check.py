"""A converted model against reference numbers that somebody else has computed."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from petmad.calculator import OF_CELLS, PETMADCalculator


RENAMED = {
    "atomic_energies": "energies",
    "non_conservative_force": "non_conservative_forces",
}
"""Upstream's names of what ASE calls otherwise."""
TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""Relative to the scale of a quantity in a structure, see :func:`_scale`."""
TOTALS = 0.1
"""Share of an energy that counts for its scale, beside 1 eV per atom. Compositions may
make up nearly all of an energy; upstream's sums of them in float32 are off by up to
6e-6 of it (docs/conversion.md, 512 atoms of silicon), which 1e-4 of this share allows.
"""


class Reference(NamedTuple):
    """Structures and what somebody else computed for them."""

    frames: list[ase.Atoms]
    numbers: list[dict[str, Any]]
    """of each structure, by the name of the quantity"""
    path: str


class Difference(NamedTuple):
    """One quantity, in the structure where it differs most for its scale."""

    name: str
    largest: float
    """absolute difference"""
    scale: float
    """see :func:`_scale`"""
    n_structures: int


def read(structures: str, reference: str) -> Reference:
    """Read both files.

    Args:
        structures: file of structures that ASE reads.
        reference: JSON: one mapping per structure, as a list or as the values of the
            mapping ``structures``, from names of quantities to numbers: energy [eV],
            energies, forces [eV/Å], stress [eV/Å³] and the model's further outputs;
            null where there is no number; stresses of structures that are not
            periodic in all directions are passed over.

    Raises:
        ValueError: a file cannot be read, or they do not fit each other.
    """
    try:
        frames = ase.io.read(structures, index=":")
    except Exception as error:  # readers of ASE raise all kinds
        raise ValueError(
            f"cannot read structures from {structures} ({type(error).__name__}: "
            f"{error}); give a file that ASE reads"
        ) from None
    wanted = _read_reference(reference)
    if len(frames) != len(wanted):
        raise ValueError(
            f"{structures} has {len(frames)} structures, {reference} has "
            f"{len(wanted)}; give one entry per structure, in the same order"
        )
    return Reference(frames, wanted, reference)


def compare(model: str | Path, reference: Reference) -> list[Difference]:
    """Evaluate a model file and compare.

    Args:
        model: exported file.
        reference: of :func:`read`.

    Raises:
        ValueError: the reference has quantities that the model does not have, numbers
            of other shapes, or nothing to compare.
    """
    calculator = PETMADCalculator(model)
    known = calculator.implemented_properties
    found: dict[str, list[tuple[float, float]]] = {}
    for k, (atoms, numbers) in enumerate(
        zip(reference.frames, reference.numbers, strict=True)
    ):
        for key, value in numbers.items():
            name = RENAMED.get(key, key)
            if name not in known:
                raise ValueError(
                    f"{reference.path} has {key!r} in structure {k}, which this model "
                    f"does not have; it has {', '.join(known)}: mend the name, or take "
                    "the entry out"
                )
            # Upstream has zeros for stresses of what has no volume.
            has_meaning = name not in OF_CELLS or atoms.pbc.all()
            if value is not None and has_meaning:
                pair = _difference(calculator, atoms, name, value, f"structure {k}")
                found.setdefault(name, []).append(pair)
    if not found:
        raise ValueError(
            f"{reference.path} has none of {', '.join(known)}; there is nothing to "
            "compare"
        )
    return [
        Difference(name, *max(pairs, key=_relative), len(pairs))
        for name, pairs in found.items()
    ]


def _relative(pair: tuple[float, float]) -> float:
    """Difference by scale; what is not a number differs most."""
    largest, scale = pair
    return float("inf") if np.isnan(largest) else largest / scale


def _scale(name: str, theirs: np.ndarray, n_atoms: int) -> float:
    """What the tolerance of a quantity of one structure is relative to.

    Its largest number, or 1 if that is more; of energies no more than 1 eV per atom and
    :data:`TOTALS` of the energy.
    """
    largest = float(np.abs(theirs).max(initial=0.0))
    scale = max(1.0, largest)
    if name.startswith(("energy", "free_energy")):
        return min(scale, n_atoms + TOTALS * largest)
    if name.startswith("energies"):
        return min(scale, 1.0 + TOTALS * largest)
    return scale


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
    """Largest absolute difference, and the scale."""
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
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    return difference, _scale(name, theirs, len(atoms))


def format_differences(differences: list[Difference]) -> str:
    """A table for people."""
    lines = [f"{'quantity':<28} {'largest difference':>18} {'of scale':>12} {'n':>5}"]
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
            f"{tolerance:g} relative, so it is not kept; is the reference of this "
            "model, target and precision? `--tolerance` allows more"
        )

"""Numbers of upstream from ``make_oracle.py``, converted models, and comparisons."""

import collections
import functools
import json
import os
import pathlib

import ase
import numpy as np
from goldens import TOLERANCE
from resources import skip_or_fail
from structures import Structure

from petmad import PETMADCalculator
from petmad.conversion.convert import convert
from petmad.export import export_model


FOLDERS = [f for f in os.environ.get("PETMAD_ORACLE", "").split(os.pathsep) if f]
AUXILIARY = {
    "features": "feature",
    "last_layer_features/energy": "mtt::aux::energy_last_layer_features",
    "cutoff_stats": "mtt::aux::cutoff_stats",
}
WORST: dict[str, float] = collections.defaultdict(float)
"""Form and quantity -> largest difference, relative to max(1, largest number)."""


def references(folder: str) -> list[pathlib.Path]:
    """Reference files of a folder; long range is refused, hence left out."""
    files = sorted(pathlib.Path(folder).glob("*.json"))
    return [file for file in files if file.stem != "longrange"]


@functools.cache
def converted(reference: pathlib.Path, folder: pathlib.Path):
    """Of a reference file: the model, its file in float64, and upstream's numbers."""
    potential, _ = convert(reference.with_suffix(".ckpt"))
    path = folder / f"{reference.parent.name}_{reference.stem}.pt"
    export_model(potential, path, "float64")
    return potential.double(), path, json.loads(reference.read_text())


def require_folders(found) -> None:
    if found is None:
        skip_or_fail("ORACLE", "PETMAD_ORACLE names no folder made by make_oracle.py")


def write_worst() -> None:
    """Tell the largest differences so far, in the working directory."""
    path = pathlib.Path("oracle.json")
    path.write_text(json.dumps(WORST, indent=1, sort_keys=True) + "\n")


def structure_of(theirs: dict) -> Structure:
    charge, spin = theirs.get("charge_spin") or (0, 1)
    numbers, positions = theirs["numbers"], theirs["positions"]
    return Structure(numbers, positions, theirs["cell"], theirs["pbc"], charge, spin)


def compare(form: str, name: str, ours, theirs) -> None:
    """Record the difference and judge it."""
    theirs = np.asarray(theirs, dtype=np.float64).reshape(np.shape(ours))
    scale = max(1.0, np.abs(theirs).max(initial=0.0))
    difference = np.abs(np.asarray(ours) - theirs).max(initial=0.0) / scale
    WORST[f"{form} {name}"] = max(WORST[f"{form} {name}"], float(difference))
    assert difference <= TOLERANCE, f"{name} by {form}: {difference}"


def compare_rows(form: str, potential, rows: dict, theirs: dict, volume: float) -> None:
    """Outputs given per atom, [n_atoms, width], of whatever upstream tells."""
    for name, values in rows.items():
        spec = next((s for s in potential.targets if s.name == name), None)
        wanted = theirs.get(AUXILIARY.get(name, name))
        if wanted is None or name == "energy":
            continue
        if name.endswith("_uncertainty"):
            values = np.linalg.norm(values.sum(axis=0))
        elif name.endswith("_ensemble") or (spec is not None and not spec.per_atom):
            values = values.sum(axis=0)
        if spec is not None and spec.kind == "stress":
            values = values / volume if volume > 0 else np.zeros(9)
        compare(form, name, values, wanted)


def compare_energy(form: str, theirs: dict, energy, atomic, forces, strain) -> None:
    compare(form, "energy", energy, theirs["energy"])
    if "energy_uncertainty" not in theirs:  # there, LLPR is asked for the sum alone
        compare(form, "atomic energies", atomic, theirs["atomic_energies"])
    compare(form, "forces", forces, theirs["forces"])
    compare(form, "strain gradient", strain, theirs["dE_dstrain"])


@functools.cache
def calculator_of(path: pathlib.Path) -> PETMADCalculator:
    return PETMADCalculator(path)


def atoms_of(structure: Structure) -> ase.Atoms:
    info = {
        "charge": structure.charge,
        "spin_multiplicity": structure.spin_multiplicity,
    }
    numbers, positions = structure.numbers, structure.positions
    atoms = ase.Atoms(numbers, positions, cell=structure.cell, pbc=structure.pbc)
    atoms.info.update(info)
    return atoms

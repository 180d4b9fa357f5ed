"""Structures with their labels, read from extended XYZ and checked once, at reading.

ASE reads compressed multi-frame files in quadratic time, so ``.xz`` files are unpacked
in memory first.
"""

import dataclasses
import hashlib
import io
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from .tensors import TensorLabel, check_origin, read_tensor


@dataclasses.dataclass(frozen=True)
class Structure:
    """One labelled structure.

    Attributes:
        positions: [n_atoms, 3] Å.
        cell: [3, 3] Å, lattice vectors as rows; zero rows where there is none.
        pbc: [3] bool.
        atomic_numbers: [n_atoms] int64.
        energy: total energy [eV]; NaN where none is asked for.
        forces: [n_atoms, 3] eV/Å, or None.
        stress: [3, 3] eV/Å³, positive in tension, or None.
        charge: total charge.
        spin_multiplicity: 2S + 1.
        source: where it came from, for messages: ``file, frame k``.
        tensors: components of tensor targets, [1 or n_atoms, n_components], by name.
    """

    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    atomic_numbers: np.ndarray
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    charge: int
    spin_multiplicity: int
    source: str
    tensors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def labels(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy [eV], forces [n_atoms, 3] eV/Å, ∂E/∂strain [3, 3] eV; or NaN."""
        forces = self.forces
        if forces is None:
            forces = np.full_like(self.positions, np.nan)
        strain_gradients = np.full((3, 3), np.nan)
        if self.stress is not None:
            strain_gradients = self.stress * abs(np.linalg.det(self.cell))
        return self.energy, forces, strain_gradients


@dataclasses.dataclass(frozen=True)
class LabelKeys:
    """Names of the labels in a file: calculator results, or in info or arrays.

    Without a name for the energy, neither energies nor their gradients are read.
    """

    energy: str | None = "energy"
    forces: str = "forces"
    stress: str = "stress"
    tensors: tuple[TensorLabel, ...] = ()


def read_frames(path: str | Path) -> list[ase.Atoms]:
    """All frames of an extended XYZ file, plain or ``.xz``.

    Raises:
        ValueError: the file is missing, is not extended XYZ, or has no frames.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such data file: {path} (looked in {Path.cwd()})")
    try:
        if path.suffix == ".xz":
            with lzma.open(path, "rt") as file:
                text = io.StringIO(file.read())
            frames = ase.io.read(text, ":", format="extxyz")
        else:
            frames = ase.io.read(path, ":", format="extxyz")
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as extended XYZ ({type(error).__name__}: {error}); "
            "convert it with `ase convert`"
        ) from error
    if not frames:
        raise ValueError(
            f"{path} holds no structures; give a file with at least one frame"
        )
    return frames


def read_structures(
    path: str | Path,
    keys: LabelKeys | None = None,
    needs_forces: bool = True,
) -> list[Structure]:
    """Read and check the labelled structures of a file.

    Args:
        path: extended XYZ file, plain or ``.xz``.
        keys: names of the labels.
        needs_forces: whether a frame without forces is an error.

    Raises:
        ValueError: a label is missing, misshapen or not finite; names file and frame.
    """
    keys = keys or LabelKeys()
    frames = read_frames(path)
    for label in keys.tensors:
        if not any(label.key in _labels(atoms) for atoms in frames):
            known = sorted(set(_labels(frames[0])) - {"numbers", "positions"})
            raise ValueError(
                f"no frame of {path} has `{label.key}`, needed as {label.spec.name}; "
                f"the first has {known}; name the right one with "
                f"`targets.{label.spec.name}.key`"
            )
    return [
        to_structure(atoms, f"{path}, frame {i}", keys, needs_forces)
        for i, atoms in enumerate(frames)
    ]


def lacks_label(path: str | Path, key: str) -> bool:
    """Whether no frame of a file has a label of this name."""
    return not any(key in _labels(atoms) for atoms in read_frames(path))


def to_structure(
    atoms: ase.Atoms, source: str, keys: LabelKeys, needs_forces: bool = True
) -> Structure:
    """Labels and geometry of one frame, checked; see :func:`read_structures`."""
    labels = _labels(atoms)
    has_energy = keys.energy is not None
    if has_energy and keys.energy not in labels:
        raise ValueError(_missing(source, "energy", keys.energy, labels))
    if has_energy and needs_forces and keys.forces not in labels:
        raise ValueError(
            _missing(source, "forces", keys.forces, labels)
            + ", admit frames without forces with `data.require_forces: false`, or "
            "train on energies alone with `training.loss.forces.weight: 0`"
        )
    forces = labels.get(keys.forces) if has_energy else None
    stress = labels.get(keys.stress) if has_energy else None
    energy = np.asarray(labels[keys.energy]) if has_energy else np.array(np.nan)
    info = atoms.info
    structure = Structure(
        positions=np.asarray(atoms.positions, dtype=np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64) * atoms.pbc[:, None],
        pbc=np.asarray(atoms.pbc, dtype=bool),
        atomic_numbers=np.asarray(atoms.numbers, dtype=np.int64),
        energy=float(energy.reshape(())),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
        stress=None if stress is None else _full_stress(stress, source),
        charge=int(info.get("charge", 0)),
        spin_multiplicity=int(info.get("spin_multiplicity", info.get("spin", 1))),
        source=source,
        tensors={
            label.spec.name: read_tensor(labels, label, len(atoms), source)
            for label in keys.tensors
        },
    )
    _check(structure, has_energy)
    for label in keys.tensors:
        check_origin(label.spec, structure.charge, source)
    return structure


def _labels(atoms: ase.Atoms) -> dict[str, Any]:
    """Everything that may be a label; calculator results win over info and arrays."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return {**atoms.arrays, **atoms.info, **results}


def _missing(source: str, what: str, key: str, labels: dict[str, Any]) -> str:
    found = sorted(set(labels) - {"numbers", "positions"})
    return (
        f"{source} has no `{key}`, needed as {what}; it has {found}; "
        f"name the right one with `data.{what}_key`"
    )


def _full_stress(stress: Any, source: str) -> np.ndarray:
    stress = np.asarray(stress, dtype=np.float64)
    if stress.size == 6:
        return voigt_6_to_full_3x3_stress(stress.reshape(6))
    if stress.size == 9:
        return stress.reshape(3, 3)
    raise ValueError(
        f"stress of {source} must have 6 (Voigt) or 9 numbers, got shape {stress.shape}"
    )


def _check(structure: Structure, has_energy: bool) -> None:
    n_atoms = len(structure.atomic_numbers)
    if n_atoms == 0:
        raise ValueError(f"{structure.source} has no atoms; remove the frame")
    if structure.forces is not None and structure.forces.shape != (n_atoms, 3):
        raise ValueError(
            f"forces of {structure.source} must have shape [{n_atoms}, 3], "
            f"got {list(structure.forces.shape)}"
        )
    for name in ("positions", "cell", "energy", "forces", "stress"):
        value = getattr(structure, name)
        if name == "energy" and not has_energy:
            continue
        if value is not None and not np.isfinite(value).all():
            raise ValueError(
                f"{name} of {structure.source} is not finite (NaN or infinite); "
                "remove or repair the frame"
            )
    for row, periodic in zip(structure.cell, structure.pbc, strict=True):
        if periodic and not np.any(row):
            raise ValueError(
                f"{structure.source} is periodic along a lattice vector of length 0; "
                "give a cell or set pbc to F in that direction"
            )


def species_of(structures: Iterable[Structure]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({int(z) for s in structures for z in np.unique(s.atomic_numbers)})


def check_species(structures: Iterable[Structure], atomic_numbers: list[int]) -> None:
    """Refuse structures with an element the model does not have.

    Raises:
        ValueError: names the element and the first structure that has it.
    """
    known = [chemical_symbols[z] for z in atomic_numbers]
    for structure in structures:
        unknown = sorted(set(structure.atomic_numbers.tolist()) - set(atomic_numbers))
        if unknown:
            symbols = ", ".join(chemical_symbols[z] for z in unknown)
            raise ValueError(
                f"{structure.source} has {symbols}, unknown to the model, which knows "
                f"{', '.join(known)}; add structures with it to the training set"
            )


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

"""Structures with their labels, in eV and Å, checked once, at reading."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from petmad.charge_and_spin import charge_and_spin

from .option_names import group_option, option, without_forces
from .tensors import TensorLabel, check_origin, read_tensor
from .units import unit_factor


SINGULAR = 1e-6
"""Volume of the box of unit lattice vectors below which a cell counts as singular."""
ASYMMETRY = 0.05
"""Of a stress, relative to its largest number; codes leave some by their noise."""
NOISE = 1e-4
"""In the unit of the label: what a stress may be lopsided by, however small it is."""


@dataclasses.dataclass(frozen=True)
class Structure:
    """One labelled structure.

    Attributes:
        positions: [n_atoms, 3] Å.
        cell: [3, 3] Å, lattice vectors as rows; zero rows where there is none.
        pbc: [3] bool.
        atomic_numbers: [n_atoms] int64.
        energy: total energy [eV]; NaN where none is asked for, or none is needed.
        forces: [n_atoms, 3] eV/Å, or None.
        stress: [3, 3] eV/Å³, positive in tension, or None.
        charge: total charge.
        spin_multiplicity: 2S + 1.
        source: where it came from, for messages: ``file, frame k``.
        tensors: components of tensor targets, [1 or n_atoms, n_components], by name.
        level: level of theory of energy, forces and stress, an index into the model's
            energies.
        group: structures of one group stay together when a set is split.
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
    level: int = 0
    group: str = ""

    @property
    def file(self) -> str:
        """The file it came from."""
        return self.source.rpartition(", frame ")[0]

    @property
    def volume(self) -> float:
        """Of the cell [Å³]; 0 where it is not periodic in three directions."""
        return abs(float(np.linalg.det(self.cell)))

    def labels(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy [eV], forces [n_atoms, 3] eV/Å, ∂E/∂strain [3, 3] eV; or NaN."""
        forces = self.forces
        if forces is None:
            forces = np.full_like(self.positions, np.nan)
        strain_gradients = np.full((3, 3), np.nan)
        if self.stress is not None and self.volume > 0:
            strain_gradients = self.stress * self.volume
        return self.energy, forces, strain_gradients


@dataclasses.dataclass(frozen=True)
class LabelKeys:
    """Names and units of labels in a file: calculator results, or in info or arrays.

    Without a name for the energy, neither energies nor their gradients are read. A
    virial, of LAMMPS's sign, stands for a stress where it has a name: -virial / volume.
    Messages name the options of ``section``, see :mod:`petmad.data.option_names`.

    Raises:
        ValueError: a unit is unknown, or not of its label's dimension.
    """

    energy: str | None = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    tensors: tuple[TensorLabel, ...] = ()
    virial: str | None = None
    group: str | None = None
    energy_unit: str = "eV"
    forces_unit: str = "eV/Å"
    stress_unit: str = "eV/Å^3"
    virial_unit: str = "eV"
    level: int = 0
    section: str = "data"

    def __post_init__(self) -> None:
        for kind in ("energy", "forces", "stress", "virial"):
            self.factor(kind)

    def factor(self, kind: str) -> float:
        """Of a label's unit, into eV and Å."""
        return unit_factor(getattr(self, f"{kind}_unit"), kind)


def check_unit(kind: str, name: str | None, unit: str | None) -> None:
    """Refuse a typed unit of a label that is not read.

    Raises:
        ValueError: there is a unit, but no name.
    """
    if name is None and unit is not None:
        raise ValueError(
            f"`--{kind}-unit {unit}` has no effect, since no {kind} is read; name it "
            f"with `--{kind}-key`, or leave the unit out"
        )


def to_structure(
    atoms: ase.Atoms,
    source: str,
    keys: LabelKeys,
    needs_forces: bool = True,
    needs_energy: bool = True,
) -> Structure:
    """Labels and geometry of one frame, checked.

    See :func:`petmad.data.reading.read_structures`.
    """
    labels = labels_of_frame(atoms)
    has_energy = keys.energy is not None and (needs_energy or keys.energy in labels)
    if has_energy and keys.energy not in labels:
        raise ValueError(missing_label(source, "energy", keys, labels))
    if has_energy and needs_forces and keys.forces not in labels:
        raise ValueError(
            missing_label(source, "forces", keys, labels)
            + f", or {without_forces(keys.section)}"
        )
    forces = labels.get(keys.forces) if has_energy else None
    energy = np.array(np.nan)
    if has_energy:
        energy = _numbers(labels[keys.energy], "energy", source, keys)
        energy = energy * keys.factor("energy")
    if energy.size != 1:
        raise ValueError(
            f"energy of {source} must be one number, got shape {list(energy.shape)}; "
            f"is it per atom? name the total with {option(keys.section, 'energy_key')}"
        )
    if forces is not None:
        forces = _numbers(forces, "forces", source, keys) * keys.factor("forces")
    charge, spin_multiplicity = charge_and_spin(atoms.info, source)
    structure = Structure(
        positions=np.asarray(atoms.positions, dtype=np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64) * atoms.pbc[:, None],
        pbc=np.asarray(atoms.pbc, dtype=bool),
        atomic_numbers=np.asarray(atoms.numbers, dtype=np.int64),
        energy=float(energy.reshape(())),
        forces=forces,
        stress=_stress(labels, atoms, keys, source) if has_energy else None,
        charge=charge,
        spin_multiplicity=spin_multiplicity,
        source=source,
        tensors={
            label.spec.name: read_tensor(labels, label, len(atoms), source)
            for label in keys.tensors
        },
        level=keys.level,
        group=_group(labels, keys, source),
    )
    _check(structure, has_energy)
    for label in keys.tensors:
        check_origin(label.spec, structure.charge, source)
    return structure


def labels_of_frame(atoms: ase.Atoms) -> dict[str, Any]:
    """Everything that may be a label; calculator results win over info and arrays."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return {**atoms.arrays, **atoms.info, **results}


def missing_label(
    source: str, what: str, keys: LabelKeys, labels: dict[str, Any]
) -> str:
    """Message that a label is not there, with those that are."""
    found = sorted(set(labels) - {"numbers", "positions"})
    return (
        f"{source} has no `{getattr(keys, what)}`, needed as {what}; it has {found}; "
        f"name the right one with {option(keys.section, f'{what}_key')}"
    )


def _numbers(value: Any, what: str, source: str, keys: LabelKeys) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what} of {source} must be numbers, got {value!r}; repair the frame, or "
            f"name the right label with {option(keys.section, f'{what}_key')}"
        ) from None


def _stress(
    labels: dict[str, Any], atoms: ase.Atoms, keys: LabelKeys, source: str
) -> np.ndarray | None:
    """[3, 3] eV/Å³, positive in tension, from the stress or the virial of a frame."""
    if keys.stress in labels:
        stress = _square(_numbers(labels[keys.stress], "stress", source, keys), source)
        return keys.factor("stress") * stress
    if keys.virial not in labels or not atoms.pbc.all():
        return None
    virial = _numbers(labels[keys.virial], "virial", source, keys)
    virial = _square(virial, source, "virial")
    volume = abs(float(np.linalg.det(atoms.cell)))
    return virial * (-keys.factor("virial") / volume) if volume > 0 else None


def _square(found: np.ndarray, source: str, what: str = "stress") -> np.ndarray:
    if found.size == 6:
        return voigt_6_to_full_3x3_stress(found.reshape(6))
    if found.size == 9:
        square = found.reshape(3, 3)
        largest = np.abs(square - square.T).max()
        if largest > ASYMMETRY * np.abs(square).max() + NOISE:
            raise ValueError(
                f"{what} of {source} is not symmetric: {square.tolist()}; symmetrise "
                "it, or name the right label"
            )
        return square
    raise ValueError(
        f"{what} of {source} must have 6 (Voigt) or 9 numbers, got shape {found.shape}"
    )


def _group(labels: dict[str, Any], keys: LabelKeys, source: str) -> str:
    """What a structure stays together with; by default with itself."""
    if keys.group is None:
        return source
    if keys.group not in labels:
        found = sorted(set(labels) - {"numbers", "positions"})
        raise ValueError(
            f"{source} has no `{keys.group}`, named by {group_option(keys.section)}; "
            f"it has {found}; label every frame, or leave the option out"
        )
    return str(labels[keys.group])


def _check(structure: Structure, has_energy: bool) -> None:
    n_atoms = len(structure.atomic_numbers)
    if n_atoms == 0:
        raise ValueError(f"{structure.source} has no atoms; remove the frame")
    if structure.spin_multiplicity < 1:
        raise ValueError(
            f"the spin multiplicity 2S + 1 of {structure.source} must be at least 1, "
            f"got {structure.spin_multiplicity}; correct it"
        )
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
    rows = structure.cell[structure.pbc]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if len(rows) and np.linalg.det(rows @ rows.T) < SINGULAR**2:
        raise ValueError(
            f"the cell of {structure.source} is singular: its periodic lattice "
            f"vectors {structure.cell[structure.pbc].tolist()} lie in one plane or "
            "line; repair the cell or set pbc to F"
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

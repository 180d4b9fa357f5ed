"""Whether energies, forces and stresses of a set fit each other: units and signs.

Between two frames of a trajectory that lie close, the energy changes by the work of the
forces and of the stress, by the trapezoidal rule

    ΔE ≈ -½ Σ (F₁ + F₂)·Δx + ½ (V₁ σ₁ + V₂ σ₂) : ε .

The slope of ΔE against the work is 1; -1 tells a wrong sign, 27.2 a Hartree, 1 / n
energies per atom. Between files, energies in two units cannot be explained by one
energy per element, nor those per atom of structures of several sizes.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from ase import units as ase_units

from .option_names import option, other_units, without_check
from .structures import Structure
from .units import ENERGY_FACTORS


LOG = logging.getLogger(__name__)
CLOSE = 0.3
"""Å; frames whose atoms moved less are compared."""
SMALL_STRAIN = 0.05
FEWEST_PAIRS = 5
CLEAR = 0.9
"""Correlation above which a slope is believed."""
NEAR = 1.25
"""Factor within which a slope is recognised: that of water of 192 atoms is 1.05."""
ROUNDING = 1e-4
"""eV/atom; smaller spreads mean nothing."""
N_ELEMENTS = 119
"""And 0, no element."""
CONTRAST = 20.0
"""How many times better another unit must explain two files."""


class Slope(NamedTuple):
    """Of the energy against the work of one label.

    Attributes:
        value: 1 where they fit.
        correlation: between -1 and 1.
        n_pairs: pairs of frames.
        n_atoms: of a frame, on average; 1 over it is the slope of energies per atom.
    """

    value: float
    correlation: float
    n_pairs: int
    n_atoms: float

    @property
    def is_clear(self) -> bool:
        """Whether it means anything."""
        return self.n_pairs >= FEWEST_PAIRS and abs(self.correlation) > CLEAR


class Work(NamedTuple):
    """Between two frames [eV]: change of energy, work of forces and of stress."""

    energy: float
    forces: float
    stress: float
    n_atoms: int


def work_between(a: Structure, b: Structure) -> Work | None:
    """Energies of the step from ``a`` to ``b``; None where they are no neighbors."""
    if not _are_comparable(a, b):
        return None
    stress = 0.0
    if a.pbc.all():
        mean = 0.5 * (a.cell + b.cell)
        moved = _scaled(b) - _scaled(a)
        moved = (moved - np.round(moved)) @ mean
        strain = np.linalg.solve(mean, b.cell - a.cell)
        strain = 0.5 * (strain + strain.T)
        if np.abs(strain).max() > SMALL_STRAIN:
            return None
        if np.abs(strain).max() > 0:
            if a.stress is None or b.stress is None:
                return None
            total = a.volume * a.stress + b.volume * b.stress
            stress = 0.5 * float(np.sum(total * strain))
    else:
        moved = b.positions - a.positions
    if np.abs(moved).max() > CLOSE or (np.abs(moved).max() == 0 and stress == 0):
        return None
    forces = -0.5 * float(np.sum((a.forces + b.forces) * moved))
    return Work(b.energy - a.energy, forces, stress, len(a.atomic_numbers))


def _are_comparable(a: Structure, b: Structure) -> bool:
    return (
        a.forces is not None
        and b.forces is not None
        and np.array_equal(a.atomic_numbers, b.atomic_numbers)
        and np.array_equal(a.pbc, b.pbc)
        and a.file == b.file
        and a.level == b.level
    )


def _scaled(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T


def slopes(structures: Sequence[Structure]) -> tuple[Slope, Slope]:
    """Of the energy against the work of forces, and of stress, over adjacent frames."""
    pairs = itertools.pairwise(structures)
    steps = [step for step in (work_between(a, b) for a, b in pairs) if step]
    rigid = [s for s in steps if abs(s.stress) < 0.1 * abs(s.forces)]
    moving = [s for s in steps if abs(s.stress) > abs(s.forces)]
    return (
        _slope([(s.forces, s.energy - s.stress, s.n_atoms) for s in rigid]),
        _slope([(s.stress, s.energy - s.forces, s.n_atoms) for s in moving]),
    )


def _slope(steps: list[tuple[float, float, int]]) -> Slope:
    """Of pairs of frames: work, change of energy, number of atoms."""
    x, y, sizes = np.array(steps).reshape(-1, 3).T
    if not np.any(x) or not np.any(y):
        return Slope(1.0, 0.0, len(x), 1.0)
    product = float(x @ y)
    return Slope(
        product / float(x @ x),
        product / np.sqrt((x @ x) * (y @ y)),
        len(x),
        float(sizes.mean()),
    )


def check_gradients(
    structures: Sequence[Structure], section: str = "data"
) -> list[str]:
    """Compare energies with the work of forces and stress along trajectories.

    Args:
        structures: of one level of theory, in the order of their files.
        section: whose options the message names, see ``option_names.py``.

    Returns:
        Lines to report: the slopes that could be found, and which could not.

    Raises:
        ValueError: a slope tells a wrong sign or unit.
    """
    lines = []
    for what, slope in zip(("forces", "stress"), slopes(structures), strict=True):
        if not slope.is_clear:
            if any(getattr(structure, what) is not None for structure in structures):
                lines.append(
                    f"signs and units of the {what} could not be checked "
                    f"({slope.n_pairs} pairs of close frames to compare energies of)"
                )
            continue
        lines.append(
            f"energies change by {slope.value:.3g} times the work of the {what} "
            f"({slope.n_pairs} pairs of close frames)"
        )
        if _is_near(slope.value, 1.0):
            continue
        suspects = _suspects(slope, what, section)
        told = f"{lines[-1]}, from {structures[0].source} on, where it should be 1 time"
        if not suspects:
            LOG.warning("%s: look at names and units of these labels", told)
            continue
        raise ValueError(
            f"{told}: {', or '.join(suspects)}; or turn this check off with "
            f"{without_check(section)}"
        )
    return lines


def _suspects(slope: Slope, what: str, section: str) -> list[str]:
    """What a slope is likely to mean; empty where it is unrecognised."""
    if _is_near(slope.value, -1.0):
        virial = f"name a virial with {option(section, 'virial_key')}"
        mend = virial if what == "stress" else "turn it"
        return [f"the {what} have the wrong sign; {mend}"]
    suspects = [_unit_suspect(slope.value, what, section)]
    if slope.n_atoms > 1 and _is_near(abs(slope.value), 1 / slope.n_atoms):
        suspects.append(_total_is_wanted(section))
    return [suspect for suspect in suspects if suspect]


def _total_is_wanted(section: str) -> str:
    """That energies are not those of whole structures, and how to mend it."""
    return (
        "it looks as if the energies are per atom; name the total with "
        f"{option(section, 'energy_key')}"
    )


def _unit_suspect(slope: float, what: str, section: str) -> str:
    """A unit that would explain a slope; empty without one."""
    ratios = {f"the energies are in {n}": 1 / f for n, f in ENERGY_FACTORS.items()}
    ratios.update({f"the {what} are in {n}": f for n, f in _units(what).items()})
    nearest = min(ratios, key=lambda text: abs(np.log(abs(slope) / ratios[text])))
    if _is_near(abs(slope), ratios[nearest]):
        kind = "energy" if nearest.startswith("the energies") else what
        unit = option(section, f"{kind}_unit")
        return f"it looks as if {nearest}; give the unit with {unit}"
    return ""


def _units(what: str) -> dict[str, float]:
    if what == "stress":
        return {
            "GPa": ase_units.GPa,
            "kbar": 1e3 * ase_units.bar,
            "Ha/Bohr^3": ase_units.Ha / ase_units.Bohr**3,
        }
    per_length = {f"{name}/Å": factor for name, factor in ENERGY_FACTORS.items()}
    return {**per_length, "Ha/Bohr": ase_units.Ha / ase_units.Bohr}


def _is_near(value: float, expected: float) -> bool:
    ratio = value / expected
    return 1 / NEAR < ratio < NEAR


def check_energies(structures: Sequence[Structure], section: str = "data") -> None:
    """Refuse energies per atom, and files that continue each other in another unit.

    Args:
        structures: of one level of theory.
        section: whose options the message names, see ``option_names.py``.

    Raises:
        ValueError: names the file and the unit that fits.
    """
    check_totals(structures, section)
    by_file: dict[str, list[Structure]] = {}
    for structure in structures:
        by_file.setdefault(structure.file, []).append(structure)
    if len(by_file) < 2:
        return
    largest = max(by_file, key=lambda file: len(by_file[file]))
    for file, members in by_file.items():
        if file == largest:
            continue
        joint = _spread_with(by_file[largest], members)
        alone = [_spread_with(part, [])(1.0) for part in (by_file[largest], members)]
        as_given = joint(1.0)
        if as_given < max(CONTRAST * max(alone), ROUNDING):
            continue
        for unit, factor in ENERGY_FACTORS.items():
            for name, scale in ((unit, factor), (f"eV, not {unit}", 1 / factor)):
                if joint(scale) < as_given / CONTRAST:
                    raise ValueError(
                        f"the energies of {file} do not continue those of {largest}: "
                        f"one energy per element leaves {as_given:.3g} eV/atom, but "
                        f"{joint(scale):.3g} if those of {file} are in {name}; "
                        f"{other_units(section)}, or turn this check off with "
                        f"{without_check(section)}"
                    )


def check_totals(structures: Sequence[Structure], section: str) -> None:
    """Refuse energies per atom, which those of several sizes show to be such.

    Raises:
        ValueError: energies times the number of atoms are what composition explains.
    """
    if not structures:
        return
    energies = np.array([structure.energy for structure in structures])
    shares, sizes = _shares(structures)
    as_given = _spread(energies / sizes, shares)
    if as_given > max(CONTRAST * _spread(energies, shares), ROUNDING):
        first = structures[0]
        raise ValueError(
            f"one energy per element leaves {as_given:.3g} eV/atom of the energies, "
            f"such as {first.energy:.6g} eV for {len(first.atomic_numbers)} atoms of "
            f"{first.source}, but less than a twentieth of that if they were per "
            f"atom: {_total_is_wanted(section)}; or turn this check off with "
            f"{without_check(section)}"
        )


def _spread_with(
    reference: Sequence[Structure], members: Sequence[Structure]
) -> Callable[[float], float]:
    """Spread [eV/atom] around the best composition, energies of members scaled."""
    shares, sizes = _shares([*reference, *members])

    def spread(scale: float) -> float:
        energies = [s.energy for s in reference] + [scale * s.energy for s in members]
        return _spread(np.array(energies) / sizes, shares)

    return spread


def _shares(structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
    """Share of each element that occurs, [n, n_elements], and numbers of atoms [n]."""
    counts = np.array(
        [np.bincount(s.atomic_numbers, minlength=N_ELEMENTS) for s in structures]
    )
    counts, sizes = counts[:, counts.any(0)], counts.sum(1)
    return counts / sizes[:, None], sizes


def _spread(per_atom: np.ndarray, shares: np.ndarray) -> float:
    """Of energies per atom [n] around the best composition."""
    composition = np.linalg.lstsq(shares, per_atom, rcond=1e-10)[0]
    return float(np.sqrt(np.mean((per_atom - shares @ composition) ** 2)))

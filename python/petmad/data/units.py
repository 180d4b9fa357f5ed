"""Units of labels: from their names to factors into eV and Å, by ASE's constants.

A unit is a product and quotient of names, ``kcal/mol/Å``, each with an optional power,
``Ha/Bohr^3``. Its dimension is checked, so that an energy's unit is no force's.
"""

import difflib
import re
from typing import NamedTuple

from ase import units as ase_units


class Unit(NamedTuple):
    """A factor into eV and Å, and the powers of energy and length in it."""

    factor: float
    energy: int = 0
    length: int = 0


NAMES = {
    "eV": Unit(1.0, energy=1),
    "meV": Unit(1e-3, energy=1),
    "Ha": Unit(ase_units.Ha, energy=1),
    "Hartree": Unit(ase_units.Ha, energy=1),
    "Ry": Unit(ase_units.Ry, energy=1),
    "Rydberg": Unit(ase_units.Ry, energy=1),
    "kcal": Unit(ase_units.kcal, energy=1),
    "kJ": Unit(ase_units.kJ, energy=1),
    "J": Unit(ase_units.J, energy=1),
    "mol": Unit(ase_units.mol),
    "Å": Unit(1.0, length=1),
    "A": Unit(1.0, length=1),
    "Ang": Unit(1.0, length=1),
    "Angstrom": Unit(1.0, length=1),
    "Bohr": Unit(ase_units.Bohr, length=1),
    "nm": Unit(ase_units.nm, length=1),
    "GPa": Unit(ase_units.GPa, energy=1, length=-3),
    "Pa": Unit(ase_units.Pascal, energy=1, length=-3),
    "Pascal": Unit(ase_units.Pascal, energy=1, length=-3),
    "kbar": Unit(1e3 * ase_units.bar, energy=1, length=-3),
    "bar": Unit(ase_units.bar, energy=1, length=-3),
}
"""Names as ASE has them, and a few more; letter case is ignored."""

KINDS = {
    "energy": ((1, 0), "an energy", "eV, Ha or kcal/mol"),
    "forces": ((1, -1), "an energy per length", "eV/Å, Ha/Bohr or kcal/mol/Å"),
    "stress": ((1, -3), "an energy per volume", "eV/Å^3, GPa or Ha/Bohr^3"),
    "virial": ((1, 0), "an energy", "eV or Ha"),
}
"""Powers of energy and length of each label, in words, with examples."""

ENERGY_FACTORS = {
    "Ha": ase_units.Ha,
    "Ry": ase_units.Ry,
    "kcal/mol": ase_units.kcal / ase_units.mol,
    "kJ/mol": ase_units.kJ / ase_units.mol,
    "meV": 1e-3,
}
"""What an energy that was taken for eV may have been in."""

_SUPERSCRIPTS = {"²": "^2", "³": "^3"}
_BY_CASEFOLD = {name.casefold(): unit for name, unit in NAMES.items()}


def unit_factor(text: str, kind: str) -> float:
    """What a number in this unit is multiplied by to be in eV and Å.

    Args:
        text: e.g. ``Ha/Bohr``.
        kind: label it belongs to, one of :data:`KINDS`.

    Raises:
        ValueError: the unit is unknown, or of another dimension.
    """
    unit = parse_unit(text)
    dimension, words, examples = KINDS[kind]
    if (unit.energy, unit.length) != dimension:
        raise ValueError(
            f"the unit of {kind} must be {words}, got {text!r}; give {examples}"
        )
    return unit.factor


def parse_unit(text: str) -> Unit:
    """Factor and dimension of a unit.

    Raises:
        ValueError: a name is unknown, or the text is no product of names.
    """
    plain = re.sub(r"\s", "", text).replace("**", "^")
    for sign, power in _SUPERSCRIPTS.items():
        plain = plain.replace(sign, power)
    factor, energy, length = 1.0, 0, 0
    for part in re.findall(r"[*/]?[^*/]*", plain)[:-1] or [""]:
        sign = -1 if part.startswith("/") else 1
        match = re.fullmatch(r"[*/]?([^\W\d]+)(?:\^(-?\d+))?", part)
        if match is None:
            raise ValueError(
                f"{text!r} is no unit; write names with * / and ^, such as Ha/Bohr^3"
            )
        unit = _named(match[1], text)
        power = sign * int(match[2] or 1)
        factor *= unit.factor**power
        energy += power * unit.energy
        length += power * unit.length
    return Unit(factor, energy, length)


def _named(name: str, text: str) -> Unit:
    if name.casefold() in _BY_CASEFOLD:
        return _BY_CASEFOLD[name.casefold()]
    close = difflib.get_close_matches(name, NAMES, n=1)
    advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(NAMES)}"
    raise ValueError(f"unknown unit {name!r} in {text!r}; {advice}")

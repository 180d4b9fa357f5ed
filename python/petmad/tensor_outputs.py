"""Tensor targets as people want them in Python: shapes, and ASE's units.

A model gives tensors in rows and in the unit its training options recorded. Names that
have a meaning in ASE (``dipole``) or beside it (``polarizability``) are converted, so
that the unit must be a known one; everything else is handed on as it is.
"""

from typing import Any

import numpy as np


ANGSTROM_PER_BOHR = 0.529177210903
"""CODATA 2018."""
DIPOLE_UNITS = {
    "eå": 1.0,
    "ea": 1.0,
    "eangstrom": 1.0,
    "debye": 0.20819433,
    "d": 0.20819433,
    "ebohr": ANGSTROM_PER_BOHR,
    "ea0": ANGSTROM_PER_BOHR,
    "au": ANGSTROM_PER_BOHR,
}
"""e·Å per unit, by its name without case, blanks, dots and stars."""
POLARIZABILITY_UNITS = {
    "å3": 1.0,
    "a3": 1.0,
    "angstrom3": 1.0,
    "bohr3": ANGSTROM_PER_BOHR**3,
    "a03": ANGSTROM_PER_BOHR**3,
    "au": ANGSTROM_PER_BOHR**3,
    "eå2/v": 14.3996454,
    "ea2/v": 14.3996454,
}
"""Å³ per unit; e·Å²/V is e²/(4π ε0) Å³."""
KNOWN = {
    "dipole": (("vector",), "eÅ", DIPOLE_UNITS),
    "polarizability": (("symmetric", "matrix"), "Å³", POLARIZABILITY_UNITS),
}
"""Target names with a meaning: kinds, unit they are given in, units understood."""


def shaped(info: Any, rows: np.ndarray) -> np.ndarray | float:
    """Entries in the last axis of ``rows`` as the kind has them.

    Args:
        info: :class:`petmad._core.TensorInfo`.
        rows: [..., n_entries].

    Returns:
        [..., 3] for vectors, [..., 3, 3] for matrices, [..., 2λ + 1] for spherical
        ones, [...] for scalars.
    """
    if info.kind in ("symmetric", "matrix"):
        return rows.reshape(*rows.shape[:-1], 3, 3)
    if info.kind == "scalar":
        return rows[..., 0] if rows.ndim > 1 else float(rows[0])
    return rows


def has_known_meaning(info: Any) -> bool:
    """Whether a target is the dipole or polarizability of structures."""
    return info.name in KNOWN and not info.per_atom and info.kind in KNOWN[info.name][0]


def unit_factor(info: Any) -> float:
    """What turns a dipole into e·Å, a polarizability into Å³; 1 for other targets.

    Raises:
        ValueError: the recorded unit is not a known one; the message names those.
    """
    if not has_known_meaning(info):
        return 1.0
    _, unit, factors = KNOWN[info.name]
    name = info.unit.lower().replace("³", "3").replace("²", "2").replace("₀", "0")
    name = name.replace("·", "").replace("*", "").replace("^", "")
    name = name.replace(" ", "").replace(".", "")
    if name not in factors:
        raise ValueError(
            f"cannot convert the {info.name} to {unit}: the model records its unit as "
            f"{info.unit!r}, known are {', '.join(factors)}; set `targets.{info.name}."
            "unit` in the training options and export again, or read it unconverted "
            'from `results["tensors"]`'
        )
    return factors[name]


def check_charge(info: Any, charge: int) -> None:
    """Refuse a vector of a charged structure whose origin nobody recorded.

    Raises:
        ValueError: names the charge and the option.
    """
    if info.kind == "vector" and not info.per_atom and charge != 0 and not info.origin:
        raise ValueError(
            f"the `{info.name}` of a structure with charge {charge:+d} may depend on "
            "the origin, but the model records none; train it with "
            f"`targets.{info.name}.origin`"
        )

"""Units of labels: factors, dimensions, and what is said of unknown ones."""

import pytest
from ase import units

from petmad.data.structures import LabelKeys
from petmad.data.units import unit_factor


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("eV", "energy", 1.0),
        ("Ha", "energy", units.Hartree),
        ("hartree", "energy", units.Hartree),
        ("kcal/mol", "energy", units.kcal / units.mol),
        ("eV/Å", "forces", 1.0),
        ("Ha/Bohr", "forces", units.Hartree / units.Bohr),
        ("kJ / mol / nm", "forces", units.kJ / units.mol / units.nm),
        ("GPa", "stress", units.GPa),
        ("kbar", "stress", 0.1 * units.GPa),
        ("Ha/Bohr^3", "stress", units.Hartree / units.Bohr**3),
        ("eV*Å**-3", "stress", 1.0),
        ("eV/Å³", "stress", 1.0),
        ("Ry", "virial", units.Rydberg),
    ],
)
def test_factors_are_those_of_ase(text, kind, expected):
    assert unit_factor(text, kind) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("Ha", "forces", r"of forces must be an energy per length, got 'Ha'"),
        ("eV/Å", "energy", r"of energy must be an energy, got 'eV/Å'"),
        (
            "Hartre",
            "energy",
            r"unit 'Hartre' in 'Hartre'; did you mean Hartree",
        ),
        ("xyz", "energy", r"unknown unit 'xyz'.*known are eV, meV"),
        ("eV//Å", "forces", r"'eV//Å' is no unit; write names with"),
        ("", "energy", r"'' is no unit"),
    ],
)
def test_wrong_units_are_explained(text, kind, message):
    with pytest.raises(ValueError, match=message):
        unit_factor(text, kind)
    with pytest.raises(ValueError, match=message):
        LabelKeys(**{f"{kind}_unit": text})

"""Reading extended XYZ: labels, keys, units, and one clear message for bad data."""

import lzma
import pathlib

import ase.io
import numpy as np
import pytest
from toy_data import alloys, write

from petmad.data import read_structures
from petmad.data.files import file_sha256
from petmad.data.structures import (
    LabelKeys,
    check_species,
    species_of,
    to_structure,
)


def test_labels_survive_the_file(tmp_path):
    frames = alloys(3)
    structures = read_structures(write(tmp_path / "a.xyz", frames))
    assert len(structures) == 3
    for atoms, structure in zip(frames, structures, strict=True):
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(structure.cell, atoms.cell, atol=1e-7)
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-7)
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(structure.stress, stress, atol=1e-7)


def test_xz_equals_plain(tmp_path):
    plain = write(tmp_path / "a.xyz", alloys(2))
    packed = tmp_path / "a.xyz.xz"
    packed.write_bytes(lzma.compress((tmp_path / "a.xyz").read_bytes()))
    for a, b in zip(read_structures(plain), read_structures(packed), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
        assert a.energy == b.energy


def test_other_keys_in_info_and_arrays(tmp_path):
    atoms = alloys(1)[0]
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = None
    atoms.info["dft_energy"] = energy
    atoms.arrays["dft_forces"] = forces
    atoms.info["dft_stress"] = np.array([0.0, 1, 2, 1, 4, 5, 2, 5, 8])
    path = write(tmp_path / "a.xyz", [atoms])
    keys = LabelKeys("dft_energy", "dft_forces", "dft_stress")
    (structure,) = read_structures(path, keys)
    assert structure.energy == pytest.approx(energy, abs=1e-7)
    np.testing.assert_allclose(structure.forces, forces, atol=1e-7)
    assert structure.stress.shape == (3, 3)


def test_strain_gradient_is_stress_times_volume():
    atoms = alloys(1)[0]
    _, _, strain_gradients = to_structure(atoms, "toy", LabelKeys()).labels()
    expected = atoms.get_stress(voigt=False) * atoms.get_volume()
    np.testing.assert_allclose(strain_gradients, expected, rtol=1e-12)


def test_unknown_labels_are_nan():
    atoms = alloys(1)[0]
    atoms.calc.results = {"energy": 1.0}
    structure = to_structure(atoms, "toy", LabelKeys(), needs_forces=False)
    energy, forces, strain_gradients = structure.labels()
    assert energy == 1.0
    assert np.isnan(forces).all()
    assert forces.shape == (4, 3)
    assert np.isnan(strain_gradients).all()


def test_charge_and_spin_from_info():
    atoms = alloys(1)[0]
    atoms.info.update(charge=-1, spin=2)
    structure = to_structure(atoms, "toy", LabelKeys())
    assert (structure.charge, structure.spin_multiplicity) == (-1, 2)


def test_charges_are_rounded_not_cut(tmp_path):
    frames = alloys(2)
    frames[1].info.update(charge=-0.99999999, spin=2.0)
    path = write(tmp_path / "a.xyz", frames)
    structure = read_structures(path)[1]
    assert (structure.charge, structure.spin_multiplicity) == (-1, 2)
    for name, wrong, message in [
        (
            "charge",
            0.5,
            r"\['charge'\]` of .*a.xyz, frame 1 must .* whole .* got 0.5",
        ),
        ("charge", "none", "must be a whole number, got 'none'; correct it"),
        ("spin", 1.5, r"\['spin'\]` of .* whole number, got 1.5"),
        ("spin", 0, r"2S \+ 1 of .*a.xyz, frame 1 must be at least 1, got 0"),
    ]:
        frames[1].info.update({"charge": 0, "spin": 1, name: wrong})
        with pytest.raises(ValueError, match=message):
            read_structures(write(tmp_path / "a.xyz", frames))


def test_missing_energy_names_what_is_there(tmp_path):
    path = write(tmp_path / "a.xyz", alloys(1))
    with pytest.raises(ValueError, match=r"frame 0 has no `U`.*'energy'.*energy_key"):
        read_structures(path, LabelKeys(energy="U"))


def test_missing_forces_tells_the_remedies(tmp_path):
    path = write(tmp_path / "a.xyz", alloys(1))
    expected = r"no `F`.*forces_key.*require_forces: false.*forces.weight: 0"
    with pytest.raises(ValueError, match=expected):
        read_structures(path, LabelKeys(forces="F"))


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
def test_nan_label_is_refused(name):
    atoms = alloys(1)[0]
    atoms.calc.results[name] = np.asarray(atoms.calc.results[name]) * np.nan
    with pytest.raises(ValueError, match=rf"{name} of toy is not finite.*remove or"):
        to_structure(atoms, "toy", LabelKeys())


def test_nan_position_is_refused():
    atoms = alloys(1)[0]
    atoms.positions[2, 1] = np.nan
    with pytest.raises(ValueError, match="positions of toy is not finite"):
        to_structure(atoms, "toy", LabelKeys())


def test_lopsided_stress_is_refused():
    """But for the noise of a code."""
    atoms = alloys(1)[0]
    stress = atoms.get_stress(voigt=False)
    stress[0, 1] += 0.01 * np.abs(stress).max()
    atoms.calc = None
    atoms.info |= {"energy": 1.0, "stress": stress}
    to_structure(atoms, "a.xyz, frame 0", LabelKeys(), needs_forces=False)
    stress[0, 1] += 0.1 * np.abs(stress).max() + 1e-3
    with pytest.raises(ValueError, match=r"stress of a.xyz, frame 0 is not symmetric"):
        to_structure(atoms, "a.xyz, frame 0", LabelKeys(), needs_forces=False)
    atoms.info["stress"] = 1e-10 * np.arange(9.0)  # of a relaxed cell: noise alone
    to_structure(atoms, "a.xyz, frame 0", LabelKeys(), needs_forces=False)


def test_misshapen_stress_is_refused():
    atoms = alloys(1)[0]
    atoms.calc.results["stress"] = np.zeros(4)
    with pytest.raises(ValueError, match=r"6 \(Voigt\) or 9 numbers, got shape \(4,\)"):
        to_structure(atoms, "toy", LabelKeys())


def test_periodic_without_cell_is_refused():
    atoms = alloys(1)[0]
    atoms.set_cell(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"lattice vector of length 0.*pbc to F"):
        to_structure(atoms, "toy", LabelKeys())


def test_missing_file():
    with pytest.raises(ValueError, match=r"no such data file: nowhere.xyz \(looked in"):
        read_structures("nowhere.xyz")


def test_empty_file(tmp_path):
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(ValueError, match=r"a\.xyz (holds no|cannot be read)"):
        read_structures(tmp_path / "a.xyz")


def test_garbage_is_refused(tmp_path):
    (tmp_path / "a.xyz").write_text("not\nxyz at all\n")
    with pytest.raises(ValueError, match="cannot be read as extended XYZ"):
        read_structures(tmp_path / "a.xyz")


def test_species():
    structures = [to_structure(atoms, "toy", LabelKeys()) for atoms in alloys(5)]
    assert species_of(structures) == [29, 79]
    check_species(structures, [1, 29, 79])
    with pytest.raises(ValueError, match=r"toy has Au, unknown .* knows H, Cu; add"):
        check_species(structures, [1, 29])


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf")


def test_water_of_the_reference_data(data_dir):
    structures = read_structures(data_dir / "water_pbe0ts" / "test.extxyz.xz")
    assert len(structures) == 50
    assert species_of(structures) == [1, 8]
    assert all(s.stress is None for s in structures)
    assert ase.Atoms(numbers=structures[0].atomic_numbers).symbols.formula.count() == {
        "H": 128,
        "O": 64,
    }


def test_blank_lines_between_frames(tmp_path):
    """As in files that were joined."""
    frames = write(tmp_path / "a.xyz", alloys(3))
    joined = tmp_path / "b.xyz"
    text = pathlib.Path(frames).read_text()
    joined.write_text(f"{text}\n{text}\n\n")
    assert len(read_structures(joined)) == 6

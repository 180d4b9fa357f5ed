"""Tensor targets by the names, shapes and units of ASE."""

import ase
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from structures import triclinic
from tensor_models import export_tensors, water_tensors

import petmad
from petmad import PETMADCalculator
from petmad.export import load_exported
from petmad.model import TargetSpec
from petmad.response import Response


def atoms_with(path):
    structure = triclinic()
    numbers = np.resize([8, 1, 1, 6], len(structure))
    atoms = ase.Atoms(
        numbers, structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    atoms.calc = PETMADCalculator(path)
    return atoms


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export_tensors(tmp_path_factory.mktemp("ase") / "a.pt", water_tensors())


def engine_answer(atoms, names):
    species = np.searchsorted([1, 6, 8], atoms.numbers).astype(np.int32)
    cell = np.ascontiguousarray(atoms.cell.array)
    engine = atoms.calc.engine
    return engine.evaluate(atoms.positions, species, cell, atoms.pbc, outputs=names)


def test_dipole_and_polarizability(path):
    """Shapes of ASE; evaluated when asked for, and not before."""
    atoms = atoms_with(path)
    atoms.get_forces()
    assert not {"dipole", "tensors"} & set(atoms.calc.results)
    expected = engine_answer(atoms, ["dipole", "polarizability", "shielding"])
    dipole = atoms.get_dipole_moment()
    np.testing.assert_allclose(dipole, expected["sums"]["dipole"], rtol=1e-12)
    alpha = atoms.calc.get_property("polarizability", atoms)
    rows = expected["sums"]["polarizability"].reshape(3, 3)
    np.testing.assert_allclose(alpha, rows, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(alpha, alpha.T, atol=1e-12)
    shielding = atoms.calc.get_property("shielding", atoms)
    assert shielding.shape == (len(atoms), 3, 3)
    np.testing.assert_allclose(
        shielding[1, 0], expected["outputs"]["shielding"][1, :3], rtol=1e-12
    )
    assert np.abs(shielding - shielding.transpose(0, 2, 1)).max() > 1e-3
    assert np.abs(dipole).max() > 1e-3


def test_all_tensors_by_name(path):
    atoms = atoms_with(path)
    tensors = atoms.calc.get_property("tensors", atoms)
    assert set(tensors) == {"dipole", "polarizability"}
    rows = atoms.calc.results["atomic_tensors"]
    assert set(rows) == {"dipole", "polarizability", "shielding"}
    for name, value in tensors.items():
        np.testing.assert_allclose(rows[name].sum(axis=0), value, atol=1e-12)
    assert atoms.calc.results["forces"].shape == (len(atoms), 3)
    kept = tensors["dipole"].copy()
    tensors["dipole"] *= 2  # the user's own
    np.testing.assert_array_equal(
        atoms.calc.get_property("tensors", atoms)["dipole"], kept
    )


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("eÅ", 1.0),
        ("e*A", 1.0),
        ("Debye", 1 / 4.80320),
        ("a.u.", 2.541746 / 4.80320),
    ],
)
def test_dipoles_come_in_the_unit_of_ase(tmp_path, unit, factor):
    """By factors known to six digits."""
    specs = [TargetSpec("dipole", "vector", unit=unit, readout="direct")]
    atoms = atoms_with(export_tensors(tmp_path / "a.pt", specs))
    raw = atoms.calc.get_property("tensors", atoms)["dipole"]
    np.testing.assert_allclose(atoms.get_dipole_moment(), factor * raw, rtol=2e-6)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Å³", 1.0), ("bohr^3", 0.1481847), ("a0³", 0.1481847), ("e·Å²/V", 14.39964)],
)
def test_polarizabilities_come_in_cubic_angstroms(tmp_path, unit, factor):
    specs = [TargetSpec("polarizability", "symmetric", unit=unit, readout="direct")]
    atoms = atoms_with(export_tensors(tmp_path / "a.pt", specs, energy=False))
    raw = atoms.calc.get_property("tensors", atoms)["polarizability"]
    found = atoms.calc.get_property("polarizability", atoms)
    np.testing.assert_allclose(found, factor * raw, rtol=2e-6)


def test_an_unknown_unit_stops_the_dipole_alone(tmp_path):
    specs = [TargetSpec("dipole", "vector", unit="furlong", readout="direct")]
    atoms = atoms_with(export_tensors(tmp_path / "a.pt", specs))
    message = r"the dipole to eÅ: .* as 'furlong', known are eå, .*dipole\.unit"
    with pytest.raises(ValueError, match=message):
        atoms.get_dipole_moment()
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.calc.get_property("tensors", atoms)["dipole"].shape == (3,)


def test_dipoles_of_charged_structures_need_an_origin(path, tmp_path):
    """One that is recorded is enough; forces and polarizabilities need none."""
    specs = [
        TargetSpec("dipole", "vector", unit="eÅ", readout="direct"),
        TargetSpec("polarizability", "symmetric", unit="Å³", readout="direct"),
    ]
    atoms = atoms_with(export_tensors(tmp_path / "a.pt", specs))
    atoms.info["charge"] = 1
    message = (
        r"the `dipole` of a structure with charge \+1 may depend on the origin, but "
        r"the model records none; train it with `targets\.dipole\.origin`"
    )
    with (
        pytest.warns(UserWarning, match="have no effect on energies"),
        pytest.raises(ValueError, match=message),
    ):
        atoms.get_dipole_moment()
    with pytest.raises(ValueError, match=message):
        atoms.calc.get_property("tensors", atoms)
    atoms.get_forces()
    atoms.calc.get_property("polarizability", atoms)
    atoms.calc = PETMADCalculator(path)
    with pytest.warns(UserWarning, match="have no effect on energies"):
        atoms.get_dipole_moment()
    atoms.calc.get_property("tensors", atoms)


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """A water molecule and a file of tensors in Debye and cubic bohr, no energy."""
    specs = [
        TargetSpec("dipole", "vector", unit="D", readout="exact"),
        TargetSpec("polarizability", "symmetric", unit="bohr^3", readout="edge"),
        TargetSpec("shielding", "matrix", unit="ppm", per_atom=True),
    ]
    path = tmp_path_factory.mktemp("response") / "a.pt"
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(export_tensors(path, specs, energy=False))
    return atoms


@pytest.mark.parametrize(
    ("response", "name", "shape"),
    [
        ("born_effective_charges", "dipole", (3, 3, 3)),
        ("raman_tensors", "polarizability", (3, 3, 3, 3)),
    ],
)
def test_responses_are_finite_differences_of_the_engine(water, response, name, shape):
    """All displacements of all atoms, through the exported file."""
    found = water.calc.get_property(response, water)
    assert found.shape == shape
    assert np.abs(found.sum(axis=0)).max() < 1e-12 * np.abs(found).max()
    differences = np.zeros(shape)
    step = 1e-4
    for atom in range(3):
        for axis in range(3):
            values = []
            for sign in (1, -1):
                moved = water.copy()
                moved.positions[atom, axis] += sign * step
                values.append(water.calc.get_property(name, moved))
            differences[atom, ..., axis] = (values[0] - values[1]) / (2 * step)
    assert np.abs(found - differences).max() < 1e-6 * np.abs(found).max()


def test_responses_by_functions(water):
    file = water.calc.engine.info.path
    np.testing.assert_array_equal(
        petmad.born_charges(file, water),
        water.calc.get_property("born_effective_charges", water),
    )
    np.testing.assert_array_equal(
        petmad.raman_tensors(file, water),
        water.calc.get_property("raman_tensors", water),
    )


def test_responses_are_those_of_the_model_that_was_loaded(tmp_path, monkeypatch):
    """Wherever the process goes meanwhile; another file in its place is refused."""
    (tmp_path / "elsewhere").mkdir()
    export_tensors(tmp_path / "a.pt", water_tensors())
    monkeypatch.chdir(tmp_path)
    atoms = atoms_with("a.pt")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = atoms.calc.get_property("born_effective_charges", atoms)
    np.testing.assert_array_equal(found, petmad.born_charges("../a.pt", atoms))
    monkeypatch.chdir(tmp_path)
    atoms = atoms_with("a.pt")
    export_tensors(tmp_path / "a.pt", water_tensors(), energy=False)
    with pytest.raises(ValueError, match="is not the model that it was when this"):
        atoms.calc.get_property("born_effective_charges", atoms)


def test_a_model_at_hand_stays_as_it_is(path):
    potential, _ = load_exported(path)
    potential.requires_grad_(True)
    petmad.born_charges(potential, molecule("H2O"))
    assert all(parameter.requires_grad for parameter in potential.parameters())


def test_responses_of_overlapping_atoms_are_refused(path):
    response = Response(path)
    atoms = molecule("H2O")
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(ValueError, match="atoms 0 and 1 are 0 Å apart"):
        response.born_charges(atoms)
    collapsed = ase.Atoms("O", cell=[0.1, 0.1, 0.1], pbc=True)
    with pytest.raises(ValueError, match="neighbors on average, more than 20000"):
        response.born_charges(collapsed)


def test_messages_of_responses(water, path):
    response = Response(path)
    with pytest.raises(
        ValueError,
        match=r"no tensor target 'mu'; it has \['dipole', 'polarizability', 'shield",
    ):
        response.born_charges(water, "mu")
    with pytest.raises(
        ValueError, match="a dipole must be of kind vector, but 'polarizability' is of "
    ):
        response.born_charges(water, "polarizability")
    with pytest.raises(ValueError, match=r"lacks the atomic numbers \[14\]; it knows"):
        response.derivatives(molecule("SiH4"), "dipole")
    charged = molecule("H2O")
    charged.info["charge"] = -1
    assert response.born_charges(charged).shape == (3, 3, 3)


def test_a_model_of_tensors_alone(tmp_path):
    atoms = atoms_with(export_tensors(tmp_path / "a.pt", water_tensors(), energy=False))
    assert atoms.get_dipole_moment().shape == (3,)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()
    assert set(atoms.calc.results) == {"dipole"}

"""What is odd in a set: what is counted, and what units and signs give away."""

import dataclasses
import re

import ase
import ase.units
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from toy_data import alloys, write

from petmad.data import make_sample, read_structures
from petmad.data.consistency import check_energies, check_gradients, slopes
from petmad.data.quality import inspect
from petmad.data.structures import LabelKeys, to_structure


NUMBERS = [29, 79]


def trajectory(n_frames: int = 12, strain: float = 0.0) -> list[ase.Atoms]:
    """Small moves, and strains, of one alloy, with EMT labels."""
    random = np.random.default_rng(5)
    atoms = alloys(1)[0]
    atoms.calc = None
    atoms *= (2, 1, 1)
    amplitude = 0.02 if strain == 0 else 0.002  # so that one of both works leads
    frames = []
    for _ in range(n_frames):
        moved = np.eye(3) + strain * random.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ moved, scale_atoms=True)
        atoms.positions += amplitude * random.standard_normal(atoms.positions.shape)
        frame = atoms.copy()
        frame.calc = EMT()
        labels = {
            "energy": frame.get_potential_energy(),
            "forces": frame.get_forces(),
            "stress": frame.get_stress(),
        }
        frame.calc = SinglePointCalculator(frame, **labels)
        frames.append(frame)
    return frames


def scale(frames, name, factor):
    """The same frames with one label times a factor."""
    for atoms in frames:
        atoms.calc.results[name] = factor * atoms.calc.results[name]
    return frames


def structures_of(frames, file="a.xyz", **keys):
    return [
        to_structure(atoms, f"{file}, frame {i}", LabelKeys(**keys))
        for i, atoms in enumerate(frames)
    ]


def test_right_labels_have_slope_one():
    forces, _ = slopes(structures_of(trajectory()))
    assert forces.n_pairs == 11
    assert forces.value == pytest.approx(1, abs=0.05)
    _, stress = slopes(structures_of(trajectory(strain=0.005)))
    assert stress.is_clear
    assert stress.value == pytest.approx(1, abs=0.1)
    plain, strained = (structures_of(trajectory(strain=s)) for s in (0.0, 0.005))
    forces, stress = check_gradients(plain)
    assert re.search(r"by 0\.997 times the work of the forces \(11 pairs", forces)
    assert re.search(r"of the stress could not be checked \(0 pairs", stress)
    assert "times the work of the stress" in check_gradients(strained)[-1]


@pytest.mark.parametrize(
    ("name", "factor", "strain", "message"),
    [
        ("forces", -1, 0.0, "the forces have the wrong sign"),
        ("stress", -1, 0.005, "stress have the wrong sign; name a virial"),
        ("energy", 1 / ase.units.Ha, 0.0, "as if the energies are in Ha"),
        ("forces", ase.units.mol / ase.units.kcal, 0.0, "forces are in kcal/mol/Å"),
        ("forces", ase.units.Bohr / ase.units.Ha, 0.0, "the forces are in Ha/Bohr"),
        ("stress", 1 / ase.units.GPa, 0.005, "the stress are in GPa"),
    ],
)
def test_wrong_signs_and_units_are_found(name, factor, strain, message):
    frames = scale(trajectory(strain=strain), name, factor)
    with pytest.raises(ValueError, match=message):
        check_gradients(structures_of(frames))


def test_slopes_that_no_unit_explains_are_told(caplog):
    check_gradients(structures_of(scale(trajectory(), "forces", 1 / 3)))
    assert "by 2.99 times the work of the forces" in caplog.text
    assert "look at names and units of these labels" in caplog.text


def test_energies_per_atom_show_in_the_work_of_forces():
    frames = scale(trajectory(), "energy", 1 / 8)
    with pytest.raises(ValueError, match=r"energies are per atom; name the total with"):
        check_gradients(structures_of(frames))


def test_energies_per_atom_show_in_cells_of_several_sizes():
    frames = alloys(16, seed=1)
    for i, atoms in enumerate(frames):
        energy = atoms.get_potential_energy() - 1000.0 * len(atoms)
        if i % 2:
            atoms *= (1, 1, 2)
            energy *= 2
        atoms.calc = SinglePointCalculator(
            atoms, energy=energy, forces=np.zeros((len(atoms), 3))
        )
    check_energies(structures_of(frames))
    for atoms in frames:
        scale([atoms], "energy", 1 / len(atoms))
    with pytest.raises(ValueError, match=r"for 4 atoms of a.xyz, frame 0, but"):
        check_energies(structures_of(frames))


def test_frames_far_apart_tell_nothing():
    lines = check_gradients(structures_of(alloys(20)))
    assert [line.partition(" could")[0] for line in lines] == [
        "signs and units of the forces",
        "signs and units of the stress",
    ]


def test_files_of_two_units_are_told():
    first = structures_of(alloys(8, seed=1), "a.xyz")
    for_ha = scale(alloys(5, seed=2), "energy", 1 / ase.units.Ha)
    shift = 500.0  # total energies as of an electronic-structure code, not of EMT
    for atoms in for_ha:
        atoms.calc.results["energy"] += 4 * shift / ase.units.Ha
    first = [s.__class__(**{**s.__dict__, "energy": s.energy + 2000}) for s in first]
    second = structures_of(for_ha, "b.xyz")
    message = r"energies of b.xyz do not continue those of a.xyz.*b.xyz are in Ha"
    with pytest.raises(ValueError, match=message):
        check_energies([*first, *second])
    mended = structures_of(for_ha, "b.xyz", energy_unit="Ha")
    check_energies([*first, *mended])


def test_other_compositions_are_no_other_units():
    """A file that fits its own composition exactly says nothing of its unit."""
    lone = ase.Atoms("Ag", cell=[9, 9, 9], pbc=True)
    lone.calc = SinglePointCalculator(lone, energy=-1000.0, forces=np.zeros((1, 3)))
    check_energies([*structures_of(alloys(6)), *structures_of([lone], "b.xyz")])


def test_oddities_are_counted():
    frames = alloys(6)
    frames[1].calc.results["forces"][0, 0] = 80.0
    frames[2].calc.results.pop("stress")
    frames[3] = frames[0].copy()
    frames[3].calc = frames[0].calc
    frames[4].set_cell(10 * np.eye(3))
    frames[4].positions = [[0, 0, 0], [2, 0, 0], [0.5, 0, 0], [5, 5, 5]]
    structures = structures_of(frames)
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures]
    found = {f.what: f for f in inspect(structures, samples, structures[5:])}
    expected = {
        "forces beyond 50": 1,
        "closer than 0.6": 4,
        "without a neighbor": 4,
        "no stress": 2,
        "repeat another": 3,
        "in the validation set": 5,
    }
    assert len(found) == len(expected)
    for part, frame in expected.items():
        (finding,) = (f for what, f in found.items() if part in what)
        assert finding.example == f"a.xyz, frame {frame}"
        assert (finding.count, finding.total) == (1, 6)
    assert inspect(structures[:1], samples[:1]) == []


@pytest.mark.parametrize(("energy", "missed"), [("energy", 1), (None, 0)])
def test_forces_are_missed_beside_energies_alone(energy, missed):
    """Not where dipoles are trained on, and no energy is asked for."""
    frames = alloys(3)
    del frames[1].calc.results["forces"]
    structures = [
        to_structure(atoms, "a.xyz", LabelKeys(energy=energy), needs_forces=False)
        for atoms in frames
    ]
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures]
    found = [f for f in inspect(structures, samples) if "no forces" in f.what]
    assert [finding.count for finding in found] == [missed] * missed


def test_labels_that_a_whole_further_level_lacks_are_not_missed():
    """As where it learns energies alone, from the files of the main one."""
    frames = alloys(6)
    for atoms in frames[3:]:
        del atoms.calc.results["forces"], atoms.calc.results["stress"]
    structures = [
        to_structure(atoms, f"{i}", LabelKeys(level=i // 3), needs_forces=False)
        for i, atoms in enumerate(frames)
    ]
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures]
    assert [f for f in inspect(structures, samples) if " no " in f.what] == []
    structures[4] = dataclasses.replace(structures[1], level=1)
    found = [f for f in inspect(structures, samples) if " no " in f.what]
    assert [(f.count, f.example) for f in found] == [(2, "3"), (2, "3")]
    main = [dataclasses.replace(s, level=0) for s in structures[3:]]
    assert [f.count for f in inspect(main, samples[3:]) if " no " in f.what] == [2, 2]


def test_singular_cells_and_units_of_files(tmp_path):
    frames = alloys(2)
    flat = frames[1].copy()
    flat.calc = frames[1].calc
    flat.cell[2] = flat.cell[0] + flat.cell[1]
    message = r"cell of toy is singular.*lie in one plane or line; repair the cell"
    with pytest.raises(ValueError, match=message):
        to_structure(flat, "toy", LabelKeys())
    path = write(tmp_path / "a.xyz", frames)
    keys = LabelKeys(energy_unit="Ha", forces_unit="Ha/Bohr", stress_unit="GPa")
    structure, plain = read_structures(path, keys)[0], read_structures(path)[0]
    assert structure.energy == pytest.approx(plain.energy * ase.units.Ha)
    np.testing.assert_allclose(
        structure.forces, plain.forces * ase.units.Ha / ase.units.Bohr
    )
    np.testing.assert_allclose(structure.stress, plain.stress * ase.units.GPa)

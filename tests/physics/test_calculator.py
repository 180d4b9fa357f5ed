"""The ASE calculator: derivatives, signs and orders, and the messages of its errors."""

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import ase
import ase.db
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms
from finite_differences import assert_derivative
from variants import make_potential

from petmad import PETMADCalculator
from petmad.export import export_model


FORCES = 1e-7
"""Relative to the largest force, float64."""
STRESS = 1e-6
"""Relative to the largest stress, float64."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("calculator")


@pytest.fixture(scope="module", params=["modern", "adaptive_solver", "adaptive_grid"])
def calculator(request, folder):
    path = folder / f"{request.param}.pt"
    export_model(make_potential(request.param), path, "float64")
    return PETMADCalculator(path)


@pytest.fixture(scope="module")
def conditioned(folder):
    path = folder / "conditioned.pt"
    export_model(make_potential("conditioned"), path, "float64")
    return path


def quartz_like() -> ase.Atoms:
    """A skewed cell of silicon and oxygen, none of its stress components zero."""
    atoms = bulk("Si", "diamond", a=5.2)
    atoms += ase.Atoms("O2", positions=[[0.9, 1.4, 2.9], [2.5, 3.0, 0.6]])
    atoms.rattle(0.1, seed=3)
    skew = np.array([[1.0, 0.1, 0.05], [0.0, 1.0, 0.08], [0.0, 0.0, 1.0]])
    atoms.set_cell(atoms.cell.array @ skew, scale_atoms=True)
    return atoms


@pytest.mark.parametrize("make", [quartz_like, lambda: molecule("CH3OH")])
def test_forces_are_finite_differences(calculator, make):
    atoms = make()
    atoms.calc = calculator
    forces, positions = atoms.get_forces(), atoms.positions.copy()
    rng = np.random.default_rng(0)
    moves = rng.normal(size=(2, *positions.shape))
    single = np.zeros_like(positions)
    single[1, 2] = 1.0
    for move in (*moves, single):
        move = move / np.linalg.norm(move)

        def energy_along(t: float, move: np.ndarray = move) -> float:
            atoms.positions = positions + t * move
            return atoms.get_potential_energy()

        scale = np.abs(forces).max()
        slope = -float((forces * move).sum())
        assert_derivative(energy_along, slope, scale, FORCES, "forces by ASE")


VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def test_stress_is_the_derivative_by_strain_in_voigt_order(calculator):
    """Symmetric strain of one component at a time; positive in tension."""
    atoms = quartz_like()
    atoms.calc = calculator
    stress, cell, volume = (
        atoms.get_stress(),
        atoms.cell.array.copy(),
        atoms.get_volume(),
    )
    assert np.abs(stress).min() > 1e-4 * np.abs(stress).max()
    for component, (i, j) in zip(stress, VOIGT, strict=True):

        def energy_along(t: float, i: int = i, j: int = j) -> float:
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5 * t
            strain[j, i] += 0.5 * t
            atoms.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
            return atoms.get_potential_energy()

        scale, slope = volume * np.abs(stress).max(), volume * component
        assert_derivative(energy_along, slope, scale, STRESS, f"stress {i}{j}")


def test_sums(calculator):
    atoms = quartz_like()
    atoms.calc = calculator
    energies, stresses = atoms.get_potential_energies(), atoms.get_stresses()
    assert energies.sum() == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
    scale = np.abs(atoms.get_stress()).max()
    np.testing.assert_allclose(
        stresses.sum(axis=0), atoms.get_stress(), rtol=0, atol=1e-12 * scale
    )
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-12)


def test_no_stress_without_a_periodic_cell(calculator):
    atoms = molecule("H2O")
    atoms.calc = calculator
    atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_charge_and_spin_are_read_anew(conditioned):
    """ASE itself sees no change when only ``atoms.info`` changes."""
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(conditioned)
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    charged = atoms.get_potential_energy()
    atoms.info["spin"] = 2
    doublet = atoms.get_potential_energy()
    del atoms.info["spin"]
    atoms.info["spin_multiplicity"] = 2
    assert atoms.get_potential_energy() == doublet
    atoms.info.clear()
    assert atoms.get_potential_energy() == neutral
    assert len({neutral, charged, doublet}) == 3


def test_charge_out_of_range(conditioned):
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(conditioned)
    atoms.info["charge"] = 11
    message = "`charge` must be within ±10 for this model, got 11"
    with pytest.raises((ValueError, RuntimeError), match=message):
        atoms.get_potential_energy()


def test_charges_that_are_sums_of_floats(conditioned):
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(conditioned)
    atoms.info["charge"] = -1
    charged = atoms.get_potential_energy()
    atoms.info["charge"] = -0.9999999
    assert atoms.get_potential_energy() == charged
    for wrong in (0.5, None, "a", 1e30, [1, 2], float("nan")):
        atoms.info["charge"] = wrong
        with pytest.raises(ValueError, match="must be a whole number, got"):
            atoms.get_potential_energy()


def test_atomic_numbers_that_are_none(calculator):
    for number, name in ((-119, "-119"), (150, "150")):
        atoms = ase.Atoms(numbers=[number])
        atoms.calc = calculator
        with pytest.raises(ValueError, match=rf"lacks the elements \['{name}'\]"):
            atoms.get_potential_energy()


def test_copies_and_pickles(conditioned):
    atoms = molecule("H2O")
    atoms.info["charge"] = 1
    atoms.calc = PETMADCalculator(conditioned, n_threads=1, rotations=3)
    energy = atoms.get_potential_energy()
    for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        again = molecule("H2O")
        again.info["charge"] = 1
        again.calc = other
        assert again.get_potential_energy() == energy
        assert other.rotational_spread == atoms.calc.rotational_spread


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_copies_of_a_file_that_changed_are_refused(tmp_path, copied):
    path = tmp_path / "a.pt"
    export_model(make_potential("modern"), path, "float64")
    calculator = PETMADCalculator(path)
    kept = copied(calculator)
    export_model(make_potential("deep"), path, "float64")
    with pytest.raises(ValueError, match=r"a\.pt is not the model that it was when"):
        copy.deepcopy(calculator) if copied is copy.deepcopy else pickle.loads(kept)


def test_rotations_leave_constraints_alone(calculator):
    """Some adjust cells that are set, and would keep the cell as it stands."""

    class Keeps(FixAtoms):
        def adjust_cell(self, atoms, cell):
            cell[:] = atoms.cell

    plain, held = quartz_like(), quartz_like()
    held.set_constraint(Keeps(indices=[]))
    made = PETMADCalculator(calculator.engine.info.path, rotations=3)
    for atoms in (plain, held):
        atoms.calc = made
    assert held.get_potential_energy() == plain.get_potential_energy()
    np.testing.assert_array_equal(held.get_stress(), plain.get_stress())


def test_a_refused_structure_leaves_no_results(calculator):
    """Nor does ASE then take those of the structure before for its own."""
    good, bad = molecule("H2O"), molecule("CH3Cl")
    calculator.calculate(good, ["energy"])
    bad.calc = calculator
    with pytest.raises(ValueError, match="lacks the elements"):
        calculator.calculate(bad, ["energy"])
    assert calculator.results == {}
    with pytest.raises(ValueError, match="lacks the elements"):
        bad.get_potential_energy()


def test_results_of_the_same_atoms_stay(calculator, monkeypatch):
    """Stresses, asked for later, do not forget the energy; other atoms forget all."""
    atoms, counts = quartz_like(), []
    made = PETMADCalculator(calculator.engine.info.path)
    evaluate = made._evaluate
    monkeypatch.setattr(
        made, "_evaluate", lambda *given: counts.append(1) or evaluate(*given)
    )
    atoms.calc = made
    for _ in range(2):
        atoms.get_potential_energy()
        made.get_property("features", atoms)
        atoms.get_stresses()
        atoms.get_forces()
    assert len(counts) == 3
    atoms.rattle(0.01)
    atoms.get_potential_energy()
    assert not {"features", "stresses"} & set(made.results)


def test_arguments_cannot_be_changed(calculator):
    with pytest.raises(TypeError, match=r"arguments \['direct'\] .* make a new one"):
        calculator.set(direct=True)
    with pytest.raises(TypeError, match=r"has no arguments \['restart'\]"):
        PETMADCalculator(calculator.engine.info.path, restart="nofile")


def test_databases_tell_the_model(calculator, tmp_path):
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(calculator.engine.info.path, rotations=3)
    atoms.get_potential_energy()
    with ase.db.connect(tmp_path / "a.db") as database:
        row = database.get(database.write(atoms))
    assert row.calculator == "petmad"
    told = row.calculator_parameters
    assert told["weights_hash"] == calculator.engine.info.weights_hash
    assert told["rotations"] == 3


def test_two_spins_are_refused(conditioned):
    atoms = molecule("H2O")
    atoms.info.update(spin=1, spin_multiplicity=3)
    atoms.calc = PETMADCalculator(conditioned)
    with pytest.raises(ValueError, match=r"`spin_multiplicity` 3 and `spin` 1 in its"):
        atoms.get_potential_energy()
    plain = molecule("H2O")  # the calculator goes on with others
    assert np.isfinite(atoms.calc.get_potential_energy(plain))


def energy_in_fork(calculator, answers):
    atoms = molecule("H2O")
    atoms.calc = calculator
    try:
        answers.put(atoms.get_potential_energy())
    except RuntimeError as error:
        answers.put(str(error))


def test_a_forked_process_is_refused_instead_of_hanging(calculator):
    threads = torch.get_num_threads()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    torch.set_num_threads(2)
    try:
        process = context.Process(target=energy_in_fork, args=(calculator, answers))
        process.start()
        answer = answers.get(timeout=60)
    finally:
        torch.set_num_threads(threads)
        process.kill()
        process.join()
    assert "was made in another process" in answer
    assert "`spawn`" in answer


def test_a_calculator_made_after_a_fork(calculator):
    """With threads it would hang as well; with one it works."""
    threads = torch.get_num_threads()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    path = calculator.engine.info.path

    def evaluate(n_threads):
        try:
            made = PETMADCalculator(path, n_threads=n_threads)
            answers.put(made.get_potential_energy(molecule("H2O")))
        except RuntimeError as error:
            answers.put(str(error))

    torch.set_num_threads(2)
    try:
        PETMADCalculator(path)
        found = []
        for n_threads in (0, 1):
            process = context.Process(target=evaluate, args=(n_threads,))
            process.start()
            found.append(answers.get(timeout=60))
    finally:
        torch.set_num_threads(threads)
        process.kill()
        process.join()
    assert "after a fork of one" in found[0]
    assert found[1] == pytest.approx(calculator.get_potential_energy(molecule("H2O")))


@pytest.mark.parametrize("wrong", [{"rotations": -1}, {"inversion": True}])
def test_rotations_that_are_none(calculator, wrong):
    with pytest.raises(ValueError, match="`rotations` must be 0 or more"):
        PETMADCalculator(calculator.engine.info.path, **wrong)


def test_a_charge_without_effect_is_told_once(calculator):
    atoms = molecule("H2O")
    atoms.calc = PETMADCalculator(calculator.engine.info.path)
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    with pytest.warns(UserWarning, match=r"charge \+1 .* have no effect on energies"):
        assert atoms.get_potential_energy() == neutral
    atoms.info["charge"] = 2
    assert atoms.get_potential_energy() == neutral


def test_rotations_that_are_no_integer(calculator):
    with pytest.raises(TypeError, match="integer"):
        PETMADCalculator(calculator.engine.info.path, rotations=2.5)


def test_misspelt_arguments(calculator):
    with pytest.raises(TypeError, match=r"has no arguments \['rotation', 'thread'\]"):
        PETMADCalculator(calculator.engine.info.path, rotation=3, thread=2)


def test_unknown_element_is_named_beside_the_known(calculator):
    atoms = molecule("CH3Cl")
    atoms.calc = calculator
    message = r"lacks the elements \['Cl'\]; it knows atomic numbers \[1, 6, 8, 14\]"
    with pytest.raises(ValueError, match=message):
        atoms.get_potential_energy()


def test_missing_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no readable model file at '.*nowhere\.pt'"):
        PETMADCalculator(tmp_path / "nowhere.pt")


def test_overlapping_atoms_are_named(calculator):
    atoms = ase.Atoms("OOH", positions=[[0, 0, 0], [1e-4, 0, 0], [1.0, 0, 0]])
    atoms.calc = calculator
    with pytest.raises(ValueError, match="0 and 1"):
        atoms.get_potential_energy()


def test_atoms_that_are_not_numbers(calculator):
    atoms = molecule("H2O")
    atoms.positions[1, 1] = np.nan
    atoms.calc = calculator
    with pytest.raises(ValueError, match="position"):
        atoms.get_potential_energy()


def test_no_atoms(calculator):
    atoms = ase.Atoms()
    atoms.calc = calculator
    assert atoms.get_potential_energy() == 0.0
    assert atoms.get_forces().shape == (0, 3)


def test_threads_need_calculators_of_their_own(folder):
    """ASE keeps one system and its results in a calculator: none may come between."""
    path = folder / "modern.pt"
    export_model(make_potential("modern"), path, "float64")
    calculator = PETMADCalculator(path)
    atoms = molecule("H2O")
    atoms.calc = calculator
    expected = atoms.get_potential_energy()
    atoms.rattle(0.01)
    entered, done = threading.Event(), threading.Event()

    def slow(*given, **named):
        entered.set()
        assert done.wait(60)
        return evaluate(*given, **named)

    evaluate, calculator._evaluate = calculator._evaluate, slow
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(atoms.get_potential_energy)
        assert entered.wait(60)
        other = molecule("H2O")
        with pytest.raises(RuntimeError, match=r"another thread.* for each thread"):
            calculator.get_potential_energy(other)
        done.set()
        assert abs(first.result() - expected) > 1e-6
    assert calculator.get_potential_energy(other) == pytest.approx(expected, abs=1e-9)

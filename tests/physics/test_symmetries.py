"""What must not change an answer does not, what must change it does."""

import numpy as np
import pytest
import torch
from graphs import Answer, answer, answer_graph, make_graph
from kept_edges import bisect_change
from structures import (
    Structure,
    ethanol,
    far_pair,
    random_structure,
    single_atom,
    slab,
    small_structures,
    triclinic,
)
from variants import ATOMIC_NUMBERS, VARIANTS, make_potential


ROUNDING = 1e-11
"""Of the largest number of a kind, for sums in another order; 1e-14 is usual."""
PLAIN_VARIANTS = [v for v in VARIANTS if v not in ("llpr", "heads")]
KINDS = ["modern", "classic", "adaptive_solver", "adaptive_grid"]


def assert_same(ours: np.ndarray, expected: np.ndarray, what: str) -> None:
    scale = max(1e-3, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(
        ours, expected, rtol=0, atol=ROUNDING * scale, err_msg=what
    )


def assert_same_answer(ours: Answer, expected: Answer) -> None:
    for what in ("energy", "atomic_energies", "forces", "strain_gradients"):
        assert_same(getattr(ours, what), getattr(expected, what), what)


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_permuting_atoms_permutes_answers(variant):
    model, structure = make_potential(variant), random_structure(21, 6)
    order = np.random.default_rng(0).permutation(len(structure))
    assert (structure.numbers[order] != structure.numbers).any()
    permuted = structure.changed(
        numbers=structure.numbers[order], positions=structure.positions[order]
    )
    before, after = answer(model, structure), answer(model, permuted)
    assert_same(after.energy, before.energy, "energy")
    assert_same(after.atomic_energies, before.atomic_energies[order], "atoms")
    assert_same(after.forces, before.forces[order], "forces")
    assert_same(after.strain_gradients, before.strain_gradients, "strain")


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_order_of_an_atoms_edges_is_irrelevant(variant):
    model, structure = make_potential(variant), random_structure(22, 6)
    graph = make_graph([structure], model.config.cutoff)
    keys = np.random.default_rng(0).random(len(graph.centers))
    order = np.lexsort((keys, graph.centers.numpy()))
    shuffled = make_graph([structure], model.config.cutoff, order)
    assert (shuffled.neighbors != graph.neighbors).any()
    assert_same_answer(answer_graph(model, shuffled), answer_graph(model, graph))


@pytest.mark.parametrize("variant", KINDS)
def test_translation_and_wrapping(variant):
    """Also unwrapped: atoms moved by lattice vectors of their own."""
    model, structure = make_potential(variant), triclinic()
    moved = structure.positions + np.array([3.21, -17.3, 8.08])
    shifts = np.random.default_rng(3).integers(-2, 3, (len(structure), 3))
    moved = structure.changed(positions=moved + shifts @ structure.cell)
    assert_same_answer(answer(model, moved), answer(model, structure))


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_batch_equals_one_by_one(variant):
    model = make_potential(variant)
    structures = [
        s.changed(charge=k % 3 - 1, spin_multiplicity=k % 4 + 1)
        for k, s in enumerate(small_structures().values())
    ]
    batch = answer(model, structures)
    singles = [answer(model, s) for s in structures]
    for what in ("energy", "atomic_energies", "forces", "strain_gradients"):
        parts = [getattr(single, what) for single in singles]
        assert_same(getattr(batch, what), np.concatenate(parts), what)


def test_structures_of_a_batch_keep_their_own_charge():
    model = make_potential("conditioned")
    neutral, charged = ethanol(), ethanol().changed(charge=1, spin_multiplicity=2)
    energies = answer(model, [neutral, charged, neutral]).energy
    assert energies[0] == pytest.approx(energies[2], abs=1e-12)
    assert abs(energies[1] - energies[0]) > 1e-3


def replicate(structure: Structure, n: tuple[int, int, int]) -> Structure:
    """The supercell, copies of the cell one after the other."""
    shifts = np.array(list(np.ndindex(*n))) @ structure.cell
    positions = (structure.positions[None] + shifts[:, None]).reshape(-1, 3)
    cell = np.array(n)[:, None] * structure.cell
    numbers = np.tile(structure.numbers, len(shifts))
    return structure.changed(numbers=numbers, positions=positions, cell=cell)


@pytest.mark.parametrize("variant", KINDS)
def test_supercell_is_extensive(variant):
    model, structure = make_potential(variant), random_structure(23, 3)
    large = replicate(structure, (2, 1, 2))
    assert len(large) == 12
    one, four = answer(model, structure), answer(model, large)
    assert_same(four.energy, 4 * one.energy, "energy")
    assert_same(four.atomic_energies, np.tile(one.atomic_energies, 4), "atoms")
    assert_same(four.forces, np.tile(one.forces, (4, 1)), "forces")
    assert_same(four.strain_gradients, 4 * one.strain_gradients, "strain")


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_a_far_atom_adds_its_own_energy(variant):
    model, structure = make_potential(variant), slab()
    with_far = structure.changed(
        numbers=[*structure.numbers, 1],
        positions=[*structure.positions, [0.5, 0.5, 60.0]],
    )
    alone = answer(model, with_far.changed(numbers=[1], positions=[[0.5, 0.5, 60.0]]))
    before, after = answer(model, structure), answer(model, with_far)
    assert_same(after.energy, before.energy + alone.energy, "energy")
    assert_same(after.forces[:-1], before.forces, "forces")
    assert_same(after.forces[-1:], alone.forces, "force on the far atom")


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_atoms_without_edges(variant):
    """Finite, no forces, additive; and not the composition alone."""
    model = make_potential(variant)
    pair, one = answer(model, far_pair()), answer(model, single_atom())
    silicon = answer(model, far_pair().changed(numbers=[14], positions=[[5.0, 0, 0]]))
    assert_same(pair.atomic_energies[:1], silicon.atomic_energies, "silicon")
    assert not pair.forces.any()
    assert not one.forces.any()
    assert not one.strain_gradients.any()
    assert abs(one.energy[0]) > 1e-3


def test_no_atoms_at_all():
    """A rank that owns nothing evaluates like any other."""
    model = make_potential("adaptive_solver")
    nothing = answer(model, Structure(np.zeros(0), np.zeros((0, 3))))
    assert nothing.energy.tolist() == [0.0]
    assert nothing.forces.shape == (0, 3)


def rotation(seed: int) -> np.ndarray:
    """A random proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


@pytest.mark.parametrize("variant", KINDS)
def test_rotation_changes_the_energy(variant):
    """PET learns rotations from data and does not have them built in.

    If this fails, the tests here turned structures without turning anything.
    """
    model, structure = make_potential(variant), ethanol()
    turn = rotation(0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    turned = structure.changed(positions=structure.positions @ turn.T)
    before = answer(model, structure).atomic_energies
    after = answer(model, turned).atomic_energies
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_energy_is_smooth_where_an_atom_enters(variant):
    """No jump of energy or forces where an atom gains an edge or is first seen."""
    model, molecule = make_potential(variant), ethanol()
    cutoff = model.config.cutoff
    outermost = molecule.positions[:, 0].max()

    def at(distance: float) -> Structure:
        spot = [outermost + distance, 0.1448, 0.0]
        numbers, positions = [*molecule.numbers, 8], [*molecule.positions, spot]
        return molecule.changed(numbers=numbers, positions=positions)

    outside, close = answer(model, at(cutoff + 1.0)), answer(model, at(1.5))
    assert np.abs(close.forces - outside.forces).max() > 0.05
    first_edge = bisect_change(model, at, 1.5, cutoff + 1.0)
    for low, high in (first_edge, (cutoff - 1e-9, cutoff + 1e-9)):
        inner, outer = answer(model, at(low)), answer(model, at(high))
        assert abs(inner.energy[0] - outer.energy[0]) < 1e-7
        assert np.abs(inner.forces - outer.forces).max() < 1e-5


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-3])
def test_coincident_atoms_stay_finite(variant, distance):
    """Unphysical, but neither NaN nor infinite."""
    model = make_potential(variant)
    atoms = Structure([6, 6, 1], [[0.0, 0, 0], [distance, 0, 0], [1.0, 0.2, 0.1]])
    result = answer(model, atoms)
    assert np.isfinite(result.energy).all()
    assert np.isfinite(result.forces).all()


@pytest.mark.parametrize("variant", PLAIN_VARIANTS)
def test_float32_deviates_by_rounding_only(variant, record_property):
    """The deviation is measured and reported, not assumed."""
    double = make_potential(variant)
    single = make_potential(variant).to_dtype(torch.float32)
    structures = [random_structure(31, 6), ethanol()]
    ours, exact = answer(single, structures), answer(double, structures)
    for what in ("atomic_energies", "forces", "strain_gradients"):
        difference = np.abs(getattr(ours, what) - getattr(exact, what)).max()
        relative = float(difference / np.abs(getattr(exact, what)).max())
        record_property(f"float32 deviation of {what}", relative)
        assert 0.0 < relative < 1e-5, what


def test_every_species_is_told_apart():
    model, structure = make_potential("modern"), ethanol()
    energies = []
    for number in ATOMIC_NUMBERS:
        numbers = structure.numbers.copy()
        numbers[0] = number
        energies.append(
            float(answer(model, structure.changed(numbers=numbers)).energy[0])
        )
    assert np.diff(sorted(energies)).min() > 1e-3

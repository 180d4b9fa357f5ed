"""Grids of rotations integrate what they promise; means over them are invariant."""

import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys

from petmad import PETMADCalculator
from petmad.export import export_model
from petmad.model import PETConfig, Potential
from petmad.rotations import rotation_grid


def wigner_power(rotation, order):
    """A matrix element of the ``order``-fold tensor product, of angular order ≤ it."""
    return rotation[0, 0] ** (order // 2) * rotation[2, 1] ** (order - order // 2)


def moment(order):
    """Mean of R_00^a R_21^b over SO(3), by a fine product rule of Euler angles."""
    a = 2 * np.pi * np.arange(24) / 24
    x, w = np.polynomial.legendre.leggauss(16)
    total = 0.0
    for alpha in a:
        for gamma in a:
            for cosine, weight in zip(x, w, strict=True):
                ca, sa, cg, sg = (
                    np.cos(alpha),
                    np.sin(alpha),
                    np.cos(gamma),
                    np.sin(gamma),
                )
                sine = np.sqrt(1 - cosine**2)
                r00 = ca * cosine * cg - sa * sg
                r21 = sine * sg
                half = order // 2
                total += weight / 2 * r00**half * r21 ** (order - half)
    return total / len(a) ** 2


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8])
def test_grid_is_exact_to_its_order(order):
    grid = rotation_grid(order)
    assert grid.weights.sum() == pytest.approx(1)
    identities = grid.rotations @ grid.rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(
        identities, np.tile(np.eye(3), (len(identities), 1, 1)), atol=1e-14
    )
    np.testing.assert_allclose(np.linalg.det(grid.rotations), 1, rtol=1e-12)
    for lower in range(1, order + 1):
        values = [wigner_power(r, lower) for r in grid.rotations]
        assert grid.weights @ values == pytest.approx(moment(lower), abs=1e-13)


def test_a_grid_of_too_low_an_order_is_not_exact():
    grid = rotation_grid(1)
    values = [r[0, 0] ** 4 for r in grid.rotations]
    assert abs(grid.weights @ values - 1 / 5) > 0.01


def test_inversion_doubles_and_removes_odd_orders():
    grid = rotation_grid(3, inversion=True)
    assert len(grid.rotations) == 2 * 6 * 4
    assert grid.weights @ grid.rotations[:, 0, 0] ** 3 == pytest.approx(0, abs=1e-15)
    with pytest.raises(ValueError, match="must be 1 to 31, got 40"):
        rotation_grid(40)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"must be 1 to 31, got {wrong}"):
            rotation_grid(wrong)
    for wrong in (2.5, "3"):
        with pytest.raises(ValueError, match=f"a whole number, 1 to 31, got {wrong!r}"):
            rotation_grid(wrong)
    assert len(rotation_grid(np.int64(3)).weights) == 24


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    torch.manual_seed(2)
    potential = Potential(PETConfig.from_dict(MODEL), [29, 79])
    path = tmp_path_factory.mktemp("model") / "model.pt"
    export_model(potential, path, "float64")
    return path


def turned_energies(calculator, atoms, rotations):
    energies, forces = [], []
    for rotation in rotations:
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ rotation.T)
        turned.positions = atoms.positions @ rotation.T
        turned.calc = calculator
        energies.append(turned.get_potential_energy())
        forces.append(turned.get_forces() @ rotation)
    return np.array(energies), np.array(forces)


def test_means_of_the_calculator(model_file):
    """The written-out mean, and less dependence on the orientation than without."""
    atoms = alloys(1)[0]
    plain = PETMADCalculator(model_file)
    averaging = PETMADCalculator(model_file, rotations=3, inversion=True)
    grid = rotation_grid(3, inversion=True)
    energies, forces = turned_energies(plain, atoms, grid.rotations)
    atoms.calc = averaging
    assert atoms.get_potential_energy() == pytest.approx(grid.weights @ energies)
    mean = np.tensordot(grid.weights, forces, axes=1)
    np.testing.assert_allclose(atoms.get_forces(), mean, atol=1e-12)
    spread = np.sqrt(grid.weights @ (energies - grid.weights @ energies) ** 2)
    assert averaging.rotational_spread["energy"] == pytest.approx(spread)
    others = rotation_grid(1).rotations @ np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]
    rough, _ = turned_energies(plain, atoms, others)
    smooth, _ = turned_energies(averaging, atoms, others)
    assert np.ptp(smooth) < 0.2 * np.ptp(rough)


def test_averaged_stress_is_the_strain_derivative(model_file):
    atoms = alloys(1)[0]
    atoms.calc = PETMADCalculator(model_file, rotations=1)
    stress = atoms.get_stress(voigt=False)
    step = 1e-5
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strain = np.eye(3)
        strain[0, 0] += sign * step
        strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        strained.calc = atoms.calc
        energies.append(strained.get_potential_energy())
    derivative = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    assert derivative == pytest.approx(stress[0, 0], rel=1e-6)


def test_direct_forces_are_not_averaged(model_file):
    with pytest.raises(ValueError, match="needs a model with direct forces"):
        PETMADCalculator(model_file, direct=True, rotations=3)

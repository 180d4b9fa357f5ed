"""Errors of direct heads on a file, from a checkpoint and from the engine."""

import json

import ase.io
import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys, write

import petmad
from petmad import PETMADCalculator
from petmad.cli import main
from petmad.export import export_model
from petmad.model import PETConfig, TargetSpec
from petmad.rotations import rotation_grid
from petmad.training import checkpoint
from petmad.training.direct import FORCE, STRESS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models with both heads and with one; labelled frames, one without forces."""
    folder = tmp_path_factory.mktemp("files")
    for name, heads in (("both", [FORCE, STRESS]), ("forces", [FORCE])):
        torch.manual_seed(1)
        potential = checkpoint.make_potential(
            PETConfig(**MODEL),
            [29, 79],
            [TargetSpec(), TargetSpec("energy/scan"), *heads],
            "float64",
        )
        for scale in potential.scales[2:]:
            scale.data.fill_(0.7)
        checkpoint.save(folder / f"{name}.ckpt", potential, {})
        export_model(potential, folder / f"{name}.pt", "float64")
    frames = alloys(5)
    frames[2].calc.results.pop("forces")
    for i, atoms in enumerate(frames):
        atoms.info["kind"] = "ab"[i % 2]
    write(folder / "test.xyz", frames)
    return folder


@pytest.mark.parametrize("suffix", ["ckpt", "pt"])
def test_errors_are_those_of_the_calculator(files, tmp_path, capsys, suffix):
    """As the heads come; of all, and of each subset, in text, JSON and HTML."""
    calculator = PETMADCalculator(files / "both.pt")
    forces, strains = {"a": [], "b": []}, {"a": [], "b": []}
    for atoms in ase.io.read(files / "test.xyz", ":"):
        kind = atoms.info["kind"]
        if "forces" in atoms.calc.results:
            found = calculator.get_property("non_conservative_forces", atoms)
            forces[kind].append(found - atoms.get_forces())
        found = calculator.get_property("non_conservative_stress", atoms)
        error = (found - atoms.get_stress()) * atoms.get_volume() / len(atoms)
        strains[kind].append(error[[0, 1, 2, 3, 4, 5, 3, 4, 5]])
    errors, report = tmp_path / "errors.json", tmp_path / "report.html"
    model = str(files / f"both.{suffix}")
    command = ["evaluate", model, str(files / "test.xyz"), "--subset-key", "kind"]
    assert main([*command, "--errors", str(errors), "--report", str(report)]) == 0
    told = json.loads(errors.read_text())
    parts = {**told["subsets"], "all": told["overall"]}
    for name, values in (("forces", forces), ("strain", strains)):
        values["all"] = values["a"] + values["b"]
        for kind, part in parts.items():
            moved = 1000 * np.abs(np.concatenate(values[kind]))
            mae, rmse = moved.mean(), np.sqrt(np.square(moved).mean())
            assert part[f"direct_{name}_mae"] == pytest.approx(mae, rel=1e-6)
            assert part[f"direct_{name}_rmse"] == pytest.approx(rmse, rel=1e-6)
    output = capsys.readouterr().out
    shown = told["overall"]["direct_forces_mae"]
    assert f"direct forces {shown:10.3f}" in output
    assert "direct strain" in output
    assert "direct forces" in report.read_text()
    assert "alt='parity of direct forces'" in report.read_text()


@pytest.mark.parametrize("suffix", ["ckpt", "pt"])
def test_a_head_that_is_not_there_has_no_errors(files, suffix):
    result = petmad.evaluate(files / f"forces.{suffix}", files / "test.xyz")
    direct = {k for k in result.errors["overall"] if k.startswith("direct")}
    assert direct == {"direct_forces_mae", "direct_forces_rmse"}


def test_heads_belong_to_the_main_energy(files):
    result = petmad.evaluate(
        files / "both.ckpt", files / "test.xyz", target="energy/scan"
    )
    assert not any(k.startswith("direct") for k in result.errors["overall"])


def test_means_over_orientations_are_turned_back(files):
    """Against a loop over turned frames."""
    file = files / "test.xyz"
    mean = petmad.evaluate(files / "both.pt", file, average_order=1).predictions[0]
    calculator = PETMADCalculator(files / "both.pt")
    grid = rotation_grid(1, inversion=True)
    forces, stresses = [], []
    for r in grid.rotations:
        atoms = ase.io.read(file, 0)
        atoms.set_cell(atoms.cell.array @ r.T)
        atoms.positions = ase.io.read(file, 0).positions @ r.T
        forces.append(calculator.get_property("non_conservative_forces", atoms) @ r)
        xx, yy, zz, yz, xz, xy = calculator.get_property(
            "non_conservative_stress", atoms
        )
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        stresses.append(r.T @ stress @ r * atoms.get_volume())
    for found, values in (
        (mean.direct.forces, forces),
        (mean.direct.strain_gradients[0], stresses),
    ):
        expected = np.average(values, axis=0, weights=grid.weights)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert np.abs(values[0] - expected).max() > 1e-5


def test_a_head_that_predicts_no_number_shows(files, tmp_path):
    potential, _ = checkpoint.load_potential(files / "forces.ckpt")
    potential.scales[2].data.fill_(float("nan"))
    checkpoint.save(tmp_path / "a.ckpt", potential, {})
    result = petmad.evaluate(tmp_path / "a.ckpt", files / "test.xyz")
    assert np.isnan(result.errors["overall"]["direct_forces_mae"])

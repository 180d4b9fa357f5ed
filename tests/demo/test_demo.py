"""The main job and the bundled model: runs, errors on held-out data, conservation."""

import numpy as np
import pytest
from resources import REPOSITORY

from petmad.cli import main
from petmad.demo.run import FOLDER
from petmad.model_file import read_metadata
from petmad.training.evaluation import evaluate, load_predictor
from petmad.training.options import load_options


WATER = FOLDER / "water.pt"
MAX_FORCE_RMSE = 80.0  # meV/Å
MAX_ENERGY_RMSE = 1.0  # meV/atom
MAX_DRIFT = 2.0  # meV/atom/ps over 0.1 ps; benchmarks/nve_drift.py measures 10 ps


@pytest.mark.lammps
@pytest.mark.mpi
def test_demo_runs_on_two_ranks(tmp_path, capsys):
    command = ["demo", "--output", str(tmp_path), "--nvt-steps", "40"]
    assert main([*command, "--nve-steps", "200"]) == 0
    text = capsys.readouterr().out
    for part in ("240 steps", "ms/step", "drift", "first O-O peak", "water.png"):
        assert part in text
    log = (tmp_path / "log.lammps").read_text()
    assert "mode: exchange" in log
    thermo = np.genfromtxt(tmp_path / "thermo.csv", delimiter=",", names=True)
    nve = thermo[thermo["step"] >= 40]
    assert nve["step"][-1] == 240
    assert 150 < nve["temperature"].mean() < 450
    energies = nve["total_energy"] / 192 * 1e3
    slope = np.polyfit(nve["time"], energies, 1)[0]
    assert abs(slope) < MAX_DRIFT
    assert (tmp_path / "trajectory.extxyz").read_text().count("192\n") >= 12
    assert (tmp_path / "water.png").stat().st_size > 10_000


def test_bundled_model_says_where_it_comes_from():
    metadata = read_metadata(WATER)
    assert metadata["atomic_numbers"] == [1, 8]
    assert WATER.stat().st_size < 5e6
    training = metadata["training"]
    shown = load_options(REPOSITORY / "examples/water/add_dimers.yaml").data
    read = [*shown.train, shown.valid, "runs/water/best.ckpt"]
    assert set(training["data_sha256"]) == set(read)


def assert_within(old, new, name):
    """What the old options say, the new ones say too; later options may be added."""
    if isinstance(old, dict):
        for key, value in old.items():
            assert_within(value, new[key], f"{name}.{key}")
    else:
        assert new == old, name


def test_bundled_model_was_trained_with_the_options_shown():
    used = read_metadata(WATER)["training"]["options"]
    for section, file in (("model", "train"), ("training", "add_dimers")):
        options = load_options(REPOSITORY / f"examples/water/{file}.yaml").to_dict()
        assert used[section]
        assert_within(used[section], options[section], section)


def test_bundled_model_on_the_test_split(data_dir):
    errors = evaluate(load_predictor(WATER), data_dir / "water_pbe0ts/test.extxyz.xz")
    assert errors["forces_rmse"] <= MAX_FORCE_RMSE
    assert errors["energy_rmse"] < MAX_ENERGY_RMSE

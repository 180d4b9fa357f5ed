"""The benchmark of uncertainties on a toy model: its numbers are what it says."""

import importlib.util
import json
import sys

import pytest
from resources import REPOSITORY
from toy_data import alloys, options, write

from petmad.training import checkpoint
from petmad.training.options import parse_options
from petmad.training.report import evaluate
from petmad.training.trainer import train


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The benchmark's module, writing to a folder of its own."""
    folder = REPOSITORY / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location(
        "uncertainty_benchmark", folder / "uncertainty.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys.modules["report"], "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    sys.modules.pop("report", None)


def test_numbers_are_those_of_the_model(benchmark, tmp_path, monkeypatch, capsys):
    best = train(parse_options(options(tmp_path, epochs=1)))
    test = write(tmp_path / "test.xyz", alloys(12, seed=5))
    command = ["uncertainty.py", str(best), test, "--members", "200", "--rounds", "3"]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    assert "overhead" in capsys.readouterr().out
    stored = json.loads((tmp_path / "results" / "uncertainty.json").read_text())
    result = stored["models"]["run"]
    assert result["n_structures"] == 12
    # 200 members tell a deviation to 5 % (one standard deviation).
    assert result["spread"] == pytest.approx(1.0, abs=0.2)
    assert result["overhead"] > 0.5
    fit = benchmark.fitted(best, 200)
    checkpoint.save(tmp_path / "sure.ckpt", fit.potential, {})
    expected = evaluate(tmp_path / "sure.ckpt", test).errors["uncertainty"]["ratio"]
    assert result["error_over_deviation"] == pytest.approx(expected, rel=1e-3)

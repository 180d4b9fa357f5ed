"""Options of examples/datasets start on the data they name, and their benchmark judges.

Trainings here are one epoch of a handful of frames: they tell that a set can be
trained, not how well.
"""

import importlib.util
import json
import lzma
import pathlib
import sys

import numpy as np
import pytest
from resources import REPOSITORY

from petmad import evaluate as evaluate_means
from petmad.data import read_structures
from petmad.data.structures import species_of
from petmad.training.evaluation import evaluate, load_predictor
from petmad.training.options import load_options
from petmad.training.trainer import train


EXAMPLES = sorted((REPOSITORY / "examples" / "datasets").glob("*.yaml"))
BENCHMARKS = REPOSITORY / "benchmarks"


def first_frames(packed: pathlib.Path, n_frames: int) -> str:
    """The beginning of a packed extended XYZ file, without reading the rest."""
    text = ""
    with lzma.open(packed, "rt") as file:
        for _ in range(n_frames):
            count = file.readline()
            text += count + "".join(file.readline() for _ in range(int(count) + 1))
    return text


def small_files(data_dir, folder, named, n_frames):
    """The files of some options, cut to their first frames, in the same tree."""
    files = []
    for name in named:
        inside = pathlib.Path(name).relative_to("../shared/data")
        file = folder / inside
        file.parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(file, "wt") as packed:
            packed.write(first_frames(data_dir / inside, n_frames))
        files.append(str(file))
    return files


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_starts(data_dir, tmp_path, file):
    options = load_options(file)
    large = file.stem == "nacl_water"
    (options.data.train,) = small_files(
        data_dir, tmp_path, [options.data.train], 2 if large else 6
    )
    if options.data.valid is not None:
        (options.data.valid,) = small_files(data_dir, tmp_path, [options.data.valid], 1)
    else:
        options.data.valid_fraction = 0.34
    # A few frames lack elements that the whole set has.
    named = [options.data.train, options.data.valid]
    frames = [s for file in named if file for s in read_structures(file)]
    options.data.atomic_numbers = species_of(frames)
    options.training.epochs = options.training.validate_every = 1
    options.training.batch_size = 1 if large else 2
    options.training.threads = 1
    options.training.compile = False  # its minute each; tests of its own
    options.output = str(tmp_path / "run")
    assert train(options).exists()


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The benchmark's module, writing to a folder of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    name = "datasets_benchmark"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / "datasets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys.modules["report"], "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    for other in ("report", "published_errors"):
        sys.modules.pop(other, None)


def test_every_example_has_test_files(data_dir, benchmark):
    assert set(benchmark.TESTS) == {file.stem for file in EXAMPLES}
    for file in EXAMPLES:
        named = load_options(file).data.train
        folder = (data_dir / pathlib.Path(named).relative_to("../shared/data")).parent
        for test in benchmark.TESTS[file.stem]:
            assert (folder / test.file).exists(), test.file


def test_one_command_trains_and_judges(
    data_dir, tmp_path, benchmark, monkeypatch, capsys
):
    original = REPOSITORY / "examples" / "datasets" / "ethanol.yaml"
    named = "../shared/data/rmd17/ethanol_train.extxyz.xz"
    tested = named.replace("train", "test")
    small_train, small_test = small_files(data_dir, tmp_path, [named, tested], 20)
    (tmp_path / "ethanol.yaml").write_text(
        original.read_text()
        .replace(named, small_train)
        .replace("compile: true", "compile: false")
    )
    command = ["datasets.py", "ethanol", "--train", "--epochs", "2"]
    command += [
        "--threads",
        "1",
        "--runs",
        str(tmp_path / "runs"),
        "--examples",
        str(tmp_path),
    ]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    assert "MACE" in capsys.readouterr().out
    stored = json.loads((tmp_path / "results" / "datasets.json").read_text())["sets"]
    result = stored["ethanol"]
    assert result["epochs"] == 2
    assert result["took"][0]["processor_hours"] > 0
    (test,) = result["tests"].values()
    predictor = load_predictor(tmp_path / "runs" / "ethanol" / "best.ckpt")
    expected = evaluate(predictor, small_test)
    np.testing.assert_allclose(test["forces"], expected["forces_mae"], rtol=1e-10)
    np.testing.assert_allclose(test["energy"], 9 * expected["energy_mae"], rtol=1e-10)
    assert test["n_structures"] == 20
    mean = evaluate_means(
        tmp_path / "runs" / "ethanol" / "best.ckpt", small_test, average_order=3
    ).errors["overall"]
    averaged = test["averaged"]
    assert averaged["n_orientations"] == 48
    assert averaged["below_older"] is False
    np.testing.assert_allclose(averaged["forces"], mean["forces_mae"], rtol=1e-4)
    np.testing.assert_allclose(averaged["energy"], 9 * mean["energy_mae"], rtol=1e-4)
    assert test["below_older"] is False
    assert test["at_best_message_passing"] is False

    # A run that is there is judged without training, and resumed where asked.
    monkeypatch.setattr(sys, "argv", [a for a in command if a != "--train"])
    benchmark.main()
    again = json.loads((tmp_path / "results" / "datasets.json").read_text())["sets"]
    assert again["ethanol"]["tests"] == result["tests"]


@pytest.mark.parametrize(
    ("energy", "forces", "is_older", "is_best"),
    [(0.3, 2.0, True, True), (0.8, 6.0, True, False), (0.3, 6.5, False, False)],
)
def test_verdicts(benchmark, energy, forces, is_older, is_best):
    (ethanol,) = benchmark.TESTS["ethanol"]
    result = benchmark.compare(ethanol, {"energy": energy, "forces": forces})
    assert result["below_older"] is is_older
    assert result["at_best_message_passing"] is is_best


def test_without_published_errors_there_is_no_verdict(benchmark):
    (lips,) = benchmark.TESTS["lips"]
    result = benchmark.compare(lips, {"energy": 0.0, "forces": 0.0})
    assert result["below_older"] is None
    assert result["at_best_message_passing"] is None

"""Memory-mapped data: the same structures and trainings as from a text file."""

import os
import pathlib
import pickle
import subprocess
import sys
import zlib

import ase.io
import lmdb
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode
from torch.utils.data import DataLoader
from toy_data import alloys, options, write

from petmad.cli import main
from petmad.data import mapped, read_structures
from petmad.data.convert import convert
from petmad.data.files import read_frames, stream_frames
from petmad.data.lazy import FEW, LazySamples, few, join, make_samples, survey
from petmad.data.mapped import MappedFrames, write_mapped
from petmad.data.structures import LabelKeys
from petmad.training import baseline
from petmad.training.checkpoint import load_potential
from petmad.training.evaluation import Prediction, Predictor, evaluate, true_labels
from petmad.training.loss import Labels
from petmad.training.options import parse_options
from petmad.training.splits import load_splits
from petmad.training.trainer import train


GROWTH = """
import sys
from petmad.data import lazy
from petmad.training.options import parse_options
from petmad.training.splits import load_splits
from petmad.training.baseline import fit_composition, fit_scale
from petmad.training.loaders import count_steps

lazy.FEW = 50

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

def read(file):
    data = {"train": file, "valid": sys.argv[1], "check_gradients": False}
    training = {"batch_atoms": 64, "epochs": 1}
    model = {"cutoff": 5.0}
    options = parse_options({"data": data, "training": training, "model": model})
    splits = load_splits(options)
    n_steps = count_steps(splits.train, options.training)
    fit_scale(splits.train, fit_composition(splits.train, 2), "forces")
    for i in range(0, len(splits.train), max(1, len(splits.train) // 50)):
        splits.train[i]
    return n_steps

read(sys.argv[1])
before = anonymous()
n_steps = read(sys.argv[2])
print(n_steps, anonymous() - before)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """200 structures as text, and the same mapped."""
    folder = tmp_path_factory.mktemp("mapped")
    text, database = folder / "a.xyz", folder / "a.aselmdb"
    write(text, alloys(200))
    convert([text], database, LabelKeys())
    return text, database


def assert_equal_samples(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        if isinstance(x, torch.Tensor):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-12, equal_nan=True)
        else:
            assert x == y, name


def test_structures_are_those_of_the_text(pair):
    expected, found = (read_structures(file) for file in pair)
    assert isinstance(expected, list)
    assert not isinstance(found, list)
    assert len(found) == len(expected) == 200
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.atomic_numbers, b.atomic_numbers)
        for name in ("positions", "cell", "forces", "stress"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_allclose(x, y, rtol=0, atol=1e-12)
        assert a.energy == pytest.approx(b.energy, abs=1e-12)
    assert found[7].source == f"{pair[1]}, frame 7"


def test_frames_open_anew_in_another_process(pair):
    here = MappedFrames(pair[1])
    frames = pickle.loads(pickle.dumps(here))
    np.testing.assert_array_equal(frames[3].positions, here[3].positions)
    with pytest.raises(IndexError):
        frames[200]


def test_one_file_may_be_told_in_two_ways(pair, monkeypatch):
    monkeypatch.chdir(pair[1].parent)
    whole, short = MappedFrames(pair[1]), MappedFrames(pair[1].name)
    np.testing.assert_array_equal(whole[3].positions, short[3].positions)
    assert short.path == pathlib.Path(pair[1].name)


def test_a_file_that_changed_is_opened_anew(tmp_path):
    path = tmp_path / "a.aselmdb"
    write_mapped(path, alloys(2))
    assert len(MappedFrames(path)) == 2
    os.utime(path, (0, 0))
    assert len(MappedFrames(path)) == 2
    path.unlink()
    write_mapped(path, alloys(3))
    assert len(MappedFrames(path)) == 3


def test_a_forked_process_opens_files_anew(pair):
    frames = MappedFrames(pair[1])
    loader = DataLoader(frames, batch_size=None, num_workers=1, collate_fn=len)
    assert list(loader) == [4] * 200
    assert len(frames[0]) == 4  # where the file was open, it still is


def test_what_else_a_frame_has_is_kept(tmp_path):
    frames = alloys(3)
    for i, atoms in enumerate(frames):
        atoms.info.update(parent=f"p{i}", matrix=np.eye(3) * i)
        atoms.arrays["magnetic"] = np.arange(len(atoms)) + 0.5
    assert write_mapped(tmp_path / "a.aselmdb", frames) == 3
    found = read_frames(tmp_path / "a.aselmdb")[2]
    assert found.info["parent"] == "p2"
    np.testing.assert_array_equal(found.info["matrix"], np.eye(3) * 2)
    np.testing.assert_array_equal(found.arrays["magnetic"], [0.5, 1.5, 2.5, 3.5])


def test_files_of_others_are_read_by_their_layout(tmp_path):
    # As ase-db-backends writes them: JSON, deflated, under numbers with a gap.
    record = {
        "numbers": [29, 79],
        "positions": [[0.0, 0.0, 0.0], [1.9, 0.5, 0.0]],
        "cell": np.eye(3) * 5,
        "pbc": [True, True, False],
        "unique_id": "0" * 32,
        "energy": -1.5,
        "forces": [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]],
        "ctime": 1.0,
        "mtime": 1.0,
        "user": "u",
        "key_value_pairs": {"parent": "p"},
        "data": {"charge": 1},
    }
    contents = {"1": record, "3": {**record, "energy": -2.5}}
    contents |= {"nextid": 4, "deleted_ids": [2]}
    path = tmp_path / "theirs.aselmdb"
    with (
        lmdb.open(str(path), subdir=False, map_size=2**24) as file,
        file.begin(write=True) as transaction,
    ):
        for key, value in contents.items():
            packed = zlib.compress(encode(value).encode())
            transaction.put(key.encode(), packed)
    first, second = read_structures(path)
    assert (first.energy, second.energy) == (-1.5, -2.5)
    assert first.charge == 1
    assert second.source == f"{path}, frame 1"
    np.testing.assert_array_equal(first.forces, record["forces"])
    assert read_frames(path)[0].info["parent"] == "p"


def test_others_read_ours(tmp_path):
    other = pytest.importorskip("ase_db_backends.aselmdb", reason="not a dependency")
    frames = alloys(4)
    write_mapped(tmp_path / "ours.aselmdb", frames)
    rows = other.LMDBDatabase(tmp_path / "ours.aselmdb", readonly=True)
    theirs = rows.get_atoms(id=3)
    rows.close()
    np.testing.assert_array_equal(theirs.positions, frames[2].positions)
    np.testing.assert_array_equal(theirs.get_forces(), frames[2].get_forces())


def training_options(folder, file, **training):
    place = folder / file.suffix[1:]
    place.mkdir()
    values = options(place, **training)
    values["data"] = {"train": str(file), "valid_fraction": 0.1}
    return parse_options(values)


@pytest.mark.parametrize("packing", [{"batch_size": 20}, {"batch_atoms": 80}])
def test_training_is_that_of_the_text(pair, tmp_path, packing):
    results = []
    for file in pair:
        best = train(training_options(tmp_path, file, epochs=1, **packing))
        results.append(load_potential(best)[1]["validation"])
        assert results[-1]["forces_mae"] > 0
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-4), name


def test_training_with_a_worker(pair, tmp_path):
    values = training_options(tmp_path, pair[1], epochs=1, batch_size=60, num_workers=1)
    assert train(values).is_file()


def test_evaluation_is_that_of_the_text(pair):
    def zero(structure):
        labels = (torch.zeros_like(label) for label in true_labels(structure))
        return Prediction(Labels(*labels))

    a, b = (evaluate(Predictor([29, 79], zero), file) for file in pair)
    assert a["energy_mae"] > 0
    for name, value in a.items():
        assert b[name] == pytest.approx(value, rel=1e-10), name


def test_splits_survey_and_baseline_are_those_of_the_text(pair, tmp_path):
    text, mapped = (load_splits(training_options(tmp_path, file)) for file in pair)
    assert isinstance(mapped.train, LazySamples)
    assert len(mapped.train) == len(text.train) == 180
    for i in (0, 50, 179):
        assert_equal_samples(text.train[i], mapped.train[i])
    assert_equal_samples(text.valid[5], mapped.valid[5])
    n_species = len(text.atomic_numbers)
    compositions = [
        baseline.fit_composition(s.train, n_species) for s in (text, mapped)
    ]
    torch.testing.assert_close(*compositions, rtol=1e-10, atol=1e-10)
    for fit in (
        baseline.force_spread,
        lambda s: baseline.energy_spread(s, compositions[0]),
    ):
        assert fit(mapped.train) == pytest.approx(fit(text.train), rel=1e-10)


def test_composition_of_many_is_reduced_without_loss(pair, monkeypatch):
    samples = make_samples(join([read_structures(pair[0])]), [29, 79], 3.0)
    n_species = 1 + max(int(s.species.max()) for s in samples)
    whole = baseline.fit_composition(samples, n_species)
    monkeypatch.setattr(baseline, "BLOCK", 16)
    torch.testing.assert_close(
        baseline.fit_composition(samples, n_species), whole, rtol=1e-9, atol=1e-9
    )


def test_lists_and_mapped_files_join(pair):
    joined = join([read_structures(pair[0])[:5], read_structures(pair[1])])
    assert len(joined) == 205
    np.testing.assert_allclose(joined[5].positions, joined[0].positions, atol=1e-12)
    assert survey(joined).n_atoms.tolist() == [len(s.atomic_numbers) for s in joined]
    assert len(few(joined)) == 205 <= FEW


def repeated(atoms):
    """A cell of 32 atoms with the labels of the small one."""
    larger = atoms.repeat(2)
    forces = np.tile(atoms.get_forces(), (8, 1))
    energy = 8 * atoms.get_potential_energy()
    larger.calc = SinglePointCalculator(larger, energy=energy, forces=forces)
    return larger


def test_memory_does_not_grow_with_the_structures(tmp_path):
    small, large = tmp_path / "small.aselmdb", tmp_path / "large.aselmdb"
    frames = [repeated(atoms) for atoms in alloys(20)]
    write_mapped(small, [frames[i % 20] for i in range(100)])
    n = 500
    write_mapped(large, (frames[i % 20] for i in range(n)))
    command = [sys.executable, "-c", GROWTH, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n_steps, growth = map(int, done.stdout.split())
    assert n_steps > 150
    samples = make_samples(join([read_structures(small)]), [29, 79], 5.0)
    held = sum(t.numel() * t.element_size() for t in samples[0][:7]) * n / 1024
    assert growth < 0.1 * held  # kB; a list of the samples would hold all of it


def test_command_converts_units_and_levels(tmp_path, capsys):
    frames = alloys(6)
    expected = [atoms.get_potential_energy() for atoms in frames]
    for atoms in frames:
        atoms.info["tight"] = atoms.get_potential_energy() / ase.units.Ha
        atoms.arrays["pull"] = atoms.get_forces() * ase.units.Bohr / ase.units.Ha
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    out = str(tmp_path / "a.aselmdb")
    names = ["--energy-key", "tight", "--energy-unit", "Ha", "--forces-key", "pull"]
    names += ["--forces-unit", "Ha/Bohr", "--level", "fine", "-o", out]
    assert main(["data", "convert", str(tmp_path / "a.xyz"), *names]) == 0
    assert "wrote 6 frames" in capsys.readouterr().out
    keys = LabelKeys("fine_energy", "fine_forces", "fine_stress")
    fine, plain = read_structures(out, keys), read_structures(out)
    assert "tight" not in read_frames(out)[0].info
    for a, b, energy in zip(fine, plain, expected, strict=True):
        assert a.energy == pytest.approx(energy, abs=1e-5)
        assert b.energy == pytest.approx(energy, abs=1e-5)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-5)
        assert a.stress is None
        assert b.stress is not None  # the main level's stays where it was


def test_conversion_checks_and_leaves_nothing_behind(tmp_path, capsys):
    frames = alloys(3)
    frames[2].calc.results["energy"] = float("nan")
    write(tmp_path / "a.xyz", frames)
    out = tmp_path / "a.aselmdb"
    assert main(["data", "convert", str(tmp_path / "a.xyz"), "-o", str(out)]) == 1
    message = capsys.readouterr().err
    assert "energy of" in message
    assert "frame 2 is not finite" in message
    assert not list(tmp_path.glob("a.aselmdb*"))


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    """In the middle, and where the process is killed no part by the output's name."""
    path, out = write(tmp_path / "a.xyz", alloys(3)), tmp_path / "a.aselmdb"
    command = ["data", "convert", path, "-o", str(out)]
    monkeypatch.setattr(mapped, "PER_TRANSACTION", 1)
    seen = []

    def interrupted(file):
        yield from stream_frames(file)
        seen.extend(p.name for p in tmp_path.glob("*a.aselmdb*"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("petmad.data.convert.stream_frames", interrupted)
        assert main(command) == 130
    assert seen == [".part-a.aselmdb"]
    assert not list(tmp_path.glob("*a.aselmdb*"))
    (tmp_path / seen[0]).write_text("of a process that was killed")
    assert main(command) == 0
    assert len(read_frames(out)) == 3
    assert not list(tmp_path.glob(".part*"))


def test_messages_name_the_options_of_the_command(tmp_path, capsys):
    frames = alloys(8)
    for i, atoms in enumerate(frames):  # a trajectory of one step again and again
        atoms.set_cell(frames[0].cell)
        atoms.numbers = frames[0].numbers
        atoms.positions = frames[0].positions + 0.02 * i
        atoms.calc.results = {"energy": -0.08 * i, "forces": np.full((4, 3), 1 / 3)}
    path = write(tmp_path / "a.xyz", frames)
    command = ["data", "convert", path, "-o", str(tmp_path / "a.aselmdb")]
    for words, messages in (
        (["--energy-key", "U"], ["no `U`", "with `--energy-key`"]),
        (["--forces-key", "F"], ["with `--forces-key`, or", "`--allow-no-forces`"]),
        (["--energy-unit", "Ha"], ["with `--forces-unit`", "off with `--no-check`"]),
    ):
        assert main([*command, *words]) == 1
        told = capsys.readouterr().err
        for message in messages:
            assert message in told
        assert "data." not in told.replace("data.aselmdb", "")
    assert main([*command, "--energy-unit", "Ha", "--no-check"]) == 0


def test_existing_and_misnamed_files_are_refused(pair, tmp_path):
    with pytest.raises(ValueError, match="exists already; remove it"):
        convert([pair[0]], pair[1], LabelKeys())
    assert pair[1].exists()
    with pytest.raises(ValueError, match=r"must end in one of \.aselmdb"):
        convert([pair[0]], tmp_path / "a.h5", LabelKeys())


def test_other_files_are_no_database(tmp_path):
    file = tmp_path / "a.aselmdb"
    file.write_bytes(b"nothing" * 1000)
    with pytest.raises(ValueError, match=r"cannot be read as an ASE-LMDB .* write one"):
        read_frames(file)


def test_a_missing_package_is_named(pair, monkeypatch):
    mapped._open.cache_clear()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ValueError, match=r"pip install 'petmad\[lmdb\]'"):
        read_frames(pathlib.Path(pair[1]))

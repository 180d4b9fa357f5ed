"""Two processes that share a step do what one does: gradients, and validation."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from toy_data import alloys, write
from toy_data import options as toy_options

from petmad.training.options import parse_options
from petmad.training.trainer import train


SCRIPT = """
import json, os, sys
import torch
from petmad.training.module import TrainingModule
from petmad.training.options import parse_options
from petmad.training.trainer import train

before = TrainingModule.on_before_optimizer_step

def keep_gradients(self, optimizer):
    before(self, optimizer)
    if self.global_step == 0 and self.trainer.is_global_zero:
        named = self.named_parameters()
        torch.save({n: p.grad for n, p in named if p.grad is not None}, sys.argv[2])

if __name__ == "__main__":
    TrainingModule.on_before_optimizer_step = keep_gradients
    train(parse_options(json.loads(sys.argv[1])))
"""


def start(*words, **environment):
    """A command of Python with one thread."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process):
    """What it told."""
    told, _ = process.communicate(timeout=280)
    assert process.returncode == 0, told[-3000:]
    return told


def write_script(tmp_path, text=SCRIPT):
    """The script that trains by the options of its first argument."""
    script = tmp_path / "script.py"
    script.write_text(text)
    return script


def first_batches():
    """Frames of the first step of two processes, of eight, two each."""
    return np.random.default_rng([0, 0]).permutation(8)[:4].reshape(2, 2)


def assert_same(found, expected):
    """Gradients by parameter, to rounding."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        largest = float(gradient.abs().max())
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-9, atol=1e-12 + 1e-10 * largest
        )
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in expected.values())


def check_gradients(tmp_path, values):
    """Of the first step, of one process with both batches and of two."""
    values["training"]["warmup_fraction"] = 0.0
    script = write_script(tmp_path)
    for devices, batch_size in ((1, 4), (2, 2)):
        values["training"].update(devices=devices, batch_size=batch_size)
        values["output"] = str(tmp_path / f"run{devices}")
        gradients = tmp_path / f"gradients{devices}"
        finish(start(script, json.dumps(values), gradients))
    one, two = (
        torch.load(tmp_path / f"gradients{devices}", weights_only=True)
        for devices in (1, 2)
    )
    assert_same(two, one)


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    """Of the first step, where the processes have unequal numbers of known labels."""
    values = toy_options(tmp_path, epochs=1, dtype="float64", threads=1)
    frames = alloys(8, seed=1)
    first, second = first_batches()
    for k in second:
        frames[k].calc.results.pop("forces")
    frames[first[0]].calc.results.pop("stress")
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    values["data"]["require_forces"] = False
    check_gradients(tmp_path, values)
    best = [
        torch.load(tmp_path / f"run{n}" / "best.ckpt", weights_only=True)
        for n in (1, 2)
    ]
    first, second = (b["petmad"]["provenance"]["validation"] for b in best)
    assert first["forces_mae"] == pytest.approx(second["forces_mae"], rel=1e-3)


@pytest.mark.slow
def test_two_nodes_do_what_one_does(tmp_path):
    """Processes of two commands, told of each other as on a cluster without a queue."""
    values = toy_options(tmp_path, n_frames=8, epochs=1, dtype="float64")
    values["training"]["batch_size"] = 4
    script = write_script(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    finish(start(script, json.dumps(values), tmp_path / "one"))
    values["training"].update(batch_size=2, num_nodes=2)
    values["output"] = str(tmp_path / "run2")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = (script, json.dumps(values), tmp_path / "two")
    for node in [start(*words, **place, NODE_RANK=rank) for rank in "01"]:
        finish(node)
    found, expected = (
        torch.load(tmp_path / name, weights_only=True) for name in ("two", "one")
    )
    assert_same(found, expected)


@pytest.mark.slow
def test_gradients_of_tensors_in_two_processes(tmp_path):
    """Of atoms, where one process has three times as many, and of fewer known frames.

    The turned copies have a term of their own, over rows whether known or not.
    """
    values = toy_options(tmp_path, epochs=1, dtype="float64", threads=1)
    frames = [atoms.copy() for atoms in alloys(8, seed=1)]
    first, second = first_batches()
    for k in second:
        frames[k] *= (1, 1, 3)
    rng = np.random.default_rng(0)
    for k, atoms in enumerate(frames):
        atoms.arrays["q"] = rng.standard_normal(len(atoms))
        if k != first[0]:
            atoms.info["mu"] = rng.standard_normal(3)
    file = write(tmp_path / "train.xyz", frames)
    values["data"] = {"train": file, "valid": file, "energy_key": None}
    values["targets"] = {
        "q": {"kind": "scalar", "per_atom": True},
        "mu": {"kind": "vector", "spread_weight": 2.0},
    }
    check_gradients(tmp_path, values)


@pytest.mark.slow
def test_processes_keep_step_where_labels_are_unknown(tmp_path):
    """One frame each: none of its tensors is known in some, of others one of two."""
    values = toy_options(tmp_path, n_frames=8, batch_size=1, devices=2, epochs=2)
    frames = alloys(8, seed=1)
    for i, atoms in enumerate(frames):
        if i % 2:
            atoms.info["a"] = atoms.positions[0]
        if i % 4 > 1:
            atoms.info["b"] = atoms.positions[1]
    values["data"] = {"train": write(tmp_path / "train.xyz", frames)}
    values["data"] |= {"valid": values["data"]["train"], "energy_key": None}
    values["targets"] = {name: {"kind": "vector"} for name in "ab"}
    script = write_script(tmp_path)
    finish(start(script, json.dumps(values), tmp_path / "gradients"))


@pytest.mark.slow
def test_two_processes_without_energies_in_the_loss(tmp_path):
    """Forces do not depend on the last layers' biases."""
    values = toy_options(tmp_path, n_frames=8, devices=2, epochs=2)
    values["training"]["loss"] = {"energy": {"weight": 0}}
    script = write_script(tmp_path)
    finish(start(script, json.dumps(values), tmp_path / "gradients"))


@pytest.mark.slow
def test_one_of_two_processes_writes_and_speaks(tmp_path):
    """Through the command: warnings, reports and files; and when it is resumed."""
    train(parse_options(toy_options(tmp_path, epochs=1)))
    values = toy_options(tmp_path, epochs=1, devices=2, embedding_gain=2.0)
    del values["model"]
    values["training"]["start_from"] = str(tmp_path / "run" / "best.ckpt")
    again = [*alloys(13, seed=1), alloys(1, seed=1)[0]]
    write(tmp_path / "train.xyz", again)
    file = tmp_path / "options.yaml"
    file.write_text(json.dumps(values))
    command = ["-m", "petmad.cli", "finetune", file]
    tuned, resumed = str(tmp_path / "tuned"), str(tmp_path / "resumed")
    for words in (
        ["--output", tuned],
        ["--output", resumed, "--resume", f"{tuned}/last.ckpt"],
    ):
        told = finish(start(*command, *words))
        for part in ("has no effect", "training data: ", "written to ", "best model: "):
            assert told.count(part) == 1, told
        for part in ("sync_dist", "Initializing distributed", "Warning"):
            assert part not in told
        assert (pathlib.Path(words[1]) / "finetune.json").is_file()


@pytest.mark.slow
def test_errors_of_every_process_are_told(tmp_path):
    values = toy_options(tmp_path, epochs=1, devices=2)
    script = write_script(
        tmp_path,
        "import json, os, sys\n"
        "from petmad.training.module import TrainingModule\n"
        "from petmad.training.options import parse_options\n"
        "from petmad.training.trainer import train\n"
        "def fail(self, batch, batch_idx):\n"
        "    if os.environ['LOCAL_RANK'] == '1':\n"
        "        raise ValueError('wrong in the second')\n"
        "TrainingModule.training_step = fail\n"
        "train(parse_options(json.loads(sys.argv[1])))\n",
    )
    process = start(script, json.dumps(values))
    told, _ = process.communicate(timeout=280)
    assert process.returncode != 0
    assert "ValueError: wrong in the second" in told

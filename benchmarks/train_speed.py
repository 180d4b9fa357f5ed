"""Structures per second in training, beside ``mtt train`` of metatrain.

Both train the same network on the same frames with the same batches, optimizer, losses
and threads, one after the other. Start-up, reading and validation are taken out by the
difference of two lengths of training. On a machine that others use, processor time is
the fairer clock; both are told. "petmad, compiled" has `training.compile`, after a run
that fills torch's cache, since compiling is start-up, too. Writes
results/train_speed.json.

    python benchmarks/train_speed.py DATA.extxyz.xz --upstream path/to/mtt
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import yaml
from report import save

from petmad.data.files import read_frames


MODEL = {
    "cutoff": 4.5,
    "d_pet": 64,
    "d_head": 64,
    "d_node": 128,
    "d_feedforward": 128,
    "num_heads": 4,
    "num_attention_layers": 1,
    "num_gnn_layers": 2,
}
SEED = 1


def ours(
    data: str, valid: str, epochs: int, batch: int, is_compiled: bool = False
) -> dict:
    """Options of ``petmad train``."""
    training = {
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": 1e-4,
        "compile": is_compiled,
        "device": "cpu",
        "embedding_gain": 1.0,
        "seed": SEED,
        "validate_every": epochs,
        "loss": {"stress": {"weight": 0.0}},
    }
    return {
        "model": MODEL,
        "data": {"train": data, "valid": valid},
        "training": training,
        "output": "run",
    }


def theirs(data: str, valid: str, epochs: int, batch: int) -> dict:
    """Options of ``mtt train``."""

    def files(name: str) -> dict:
        energy = {"key": "energy", "unit": "eV", "forces": {"key": "forces"}}
        systems = {"read_from": name, "length_unit": "angstrom"}
        return {"systems": systems, "targets": {"energy": {**energy, "stress": False}}}

    training = {"num_epochs": epochs, "batch_size": batch, "learning_rate": 1e-4}
    return {
        "seed": SEED,
        "device": "cpu",
        "base_precision": 32,
        "architecture": {"name": "pet", "model": MODEL, "training": training},
        "training_set": files(data),
        "validation_set": files(valid),
        "test_set": 0.0,
    }


def run(command: list[str], options: dict, threads: int) -> tuple[float, float]:
    """Wall and processor time [s] of a training."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "options.yaml").write_text(yaml.safe_dump(options))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}",
        }
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "options.yaml"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="extended XYZ with energies and forces")
    parser.add_argument("--upstream", required=True, help="the command mtt")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, nargs=2, default=(1, 31))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        frames = read_frames(arguments.data)[: arguments.frames + arguments.batch]
        for atoms in frames:
            atoms.calc.results.pop("stress", None)
        data, valid = (str(Path(folder) / name) for name in ("a.xyz", "b.xyz"))
        ase.io.write(data, frames[: arguments.frames], format="extxyz")
        ase.io.write(valid, frames[arguments.frames :], format="extxyz")
        petmad = str(Path(sys.executable).parent / "petmad")
        commands = {
            "petmad": ([petmad, "train"], ours),
            "petmad, compiled": (
                [petmad, "train"],
                functools.partial(ours, is_compiled=True),
            ),
            "metatrain": ([arguments.upstream, "train"], theirs),
        }
        result = {"data": Path(arguments.data).name, "atoms": len(frames[0])}
        for name, (command, options) in commands.items():
            if "compiled" in name:
                warm = options(data, valid, 1, arguments.batch)
                run(command, warm, arguments.threads)
            times = [
                run(
                    command, options(data, valid, n, arguments.batch), arguments.threads
                )
                for n in arguments.epochs
            ]
            n_structures = arguments.frames * (
                arguments.epochs[1] - arguments.epochs[0]
            )
            result[name] = {
                clock: n_structures / (times[1][i] - times[0][i])
                for i, clock in enumerate(("per_second", "per_cpu_second"))
            }
            result[name]["startup_s"] = times[0][0]
    for name in ("petmad", "petmad, compiled"):
        for clock in ("per_second", "per_cpu_second"):
            ratio = result[name][clock] / result["metatrain"][clock]
            result[name][f"ratio_{clock}"] = ratio
    told = [arguments.upstream, "--version"]
    version = subprocess.run(told, capture_output=True, text=True, check=True).stdout
    options = {"data": Path(arguments.data).name, "upstream": version.strip()}
    result["options"] = {**vars(arguments), **options}
    print(json.dumps(result, indent=1))
    print("written to", save("train_speed", result))


if __name__ == "__main__":
    main()

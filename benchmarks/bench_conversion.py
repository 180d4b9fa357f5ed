"""Time and memory to convert a model of 26 million parameters, and to load the result.

    python benchmarks/bench_conversion.py

A random model of the size of pet-mad-s 1.5 (102 elements; energy, direct forces and
stress, uncertainty with 128 members) is written in metatrain's layout. Each step then
runs in a process of its own, whose processor time, elapsed time and peak memory are
taken; elapsed times mean something on an idle machine only. Writes
results/bench_conversion.json.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from report import save

from petmad.conversion.pickle_upstream import save as save_upstream
from petmad.conversion.to_upstream import make_checkpoint
from petmad.model import PETConfig, Potential, TargetSpec


SIZE_S = {
    "cutoff": 8.0,
    "num_neighbors_adaptive": 16,
    "adaptive_cutoff_method": "grid",
    "cutoff_width_adaptive": 0.5,
    "d_pet": 256,
    "d_head": 256,
    "d_node": 1024,
    "d_feedforward": 512,
    "num_heads": 8,
    "num_gnn_layers": 3,
    "num_attention_layers": 1,
}
TARGETS = [
    TargetSpec("energy", has_uncertainty=True, n_members=128),
    TargetSpec("non_conservative_force", "force", 3, True, "eV/A"),
    TargetSpec("non_conservative_stress", "stress", 9, False, "eV/A^3"),
]
LAMMPS = """
units metal
region box block 0 9 0 9 0 9
create_box 1 box
create_atoms 1 single 1 1 1
mass 1 28.085
pair_style petmad {model} check {check}
pair_coeff * * Si
"""
TARGET_SECONDS = {"convert": 30.0, "load in LAMMPS, unchecked": 5.0}
TARGET_MEMORY = 2.0  # GB, of the conversion


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command; seconds elapsed and of the processor, and peak memory [GB]."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} failed with status {status}")
    return {
        "elapsed_s": round(time.perf_counter() - started, 2),
        "processor_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_GB": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def main() -> None:
    """Make the model, measure, and save."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.manual_seed(0)
    numbers = list(range(1, 103))
    potential = Potential(PETConfig.from_dict(SIZE_S), numbers, TARGETS)
    n_parameters = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    load = round(os.getloadavg()[0], 1)
    results: dict[str, Any] = {"n_parameters": n_parameters, "load_average": load}
    programs = pathlib.Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        theirs, ours = folder / "theirs.ckpt", folder / "model.pt"
        save_upstream(make_checkpoint(potential), theirs)
        results["checkpoint_MB"] = round(theirs.stat().st_size / 1e6, 1)
        python = [sys.executable, "-m", "petmad.cli"]
        results["convert"] = measure([*python, "convert", str(theirs), "-o", str(ours)])
        results["model_file_MB"] = round(ours.stat().st_size / 1e6, 1)
        load = (
            f"from petmad._engine import Engine; Engine({str(ours)!r}, 'cpu', 0, True)"
        )
        results["import of the engine"] = measure(
            [sys.executable, "-c", "from petmad._engine import Engine"]
        )
        results["load in Python"] = measure([sys.executable, "-c", load])
        for label, check in (("checked", "yes"), ("unchecked", "no")):
            script = folder / "in.load"
            script.write_text(LAMMPS.format(model=ours, check=check))
            command = [str(programs / "lmp"), "-in", str(script), "-log", "none"]
            results[f"load in LAMMPS, {label}"] = measure(command)
    for step, result in results.items():
        print(step, result)
    results["within_targets"] = {
        step: results[step]["elapsed_s"] <= limit
        for step, limit in TARGET_SECONDS.items()
    }
    used = results["convert"]["peak_memory_GB"]
    results["within_targets"]["memory"] = used <= TARGET_MEMORY
    print(results["within_targets"])
    print("written to", save("bench_conversion", results))


if __name__ == "__main__":
    main()

"""Time and memory per atom from 500 to 20,000 atoms of water: both should be flat.

    python benchmarks/steady.py [--size XS] [--repeats 3x1x1 ... 7x5x3] [--rounds 3]
        [--threads 1] [--note TEXT]

Replicas of a cell of 192 atoms through the ASE calculator: energy, forces and stress,
neighbor lists included. One process per size, so that none inherits memory; told are
medians, the peak of resident memory above that of the loaded model, and the first
evaluation. Writes results/steady.json.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from published import SIZES, make_system, random_potential
from report import save

from petmad._ops import load_ops
from petmad.calculator import PETMADCalculator
from petmad.export import export_model


REPEATS = ("3x1x1", "2x2x2", "3x3x3", "4x4x4", "7x5x3")  # 576 to 20,160 atoms


def memory(key: str) -> float:
    """A value of /proc/self/status [GB]: ``VmRSS``, or ``VmHWM``, the most so far."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e9
    return float("nan")


def measure(model: str, repeats: str, n_rounds: int) -> dict[str, float]:
    """One size, in this process."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    atoms = make_system("192 water").repeat([int(n) for n in repeats.split("x")])
    atoms.calc = PETMADCalculator(model, n_threads=torch.get_num_threads())
    rng = np.random.default_rng(0)
    loaded = memory("VmRSS")
    clock, processor = [], []
    for _ in range(1 + n_rounds):
        atoms.positions += 0.02 * rng.standard_normal(atoms.positions.shape)
        start, cpu_start = time.perf_counter(), time.process_time()
        atoms.calc.calculate(atoms, ["energy", "forces", "stress"])
        processor.append(time.process_time() - cpu_start)
        clock.append(time.perf_counter() - start)
    peak = memory("VmHWM")
    return {
        "n_atoms": len(atoms),
        "us_per_atom": 1e6 * statistics.median(clock[1:]) / len(atoms),
        "cpu_us_per_atom": 1e6 * statistics.median(processor[1:]) / len(atoms),
        "first_s": clock[0],
        "peak_gb": peak,
        "kb_per_atom": 1e6 * (peak - loaded) / len(atoms),
    }


def ask(model: pathlib.Path, repeats: str, n_rounds: int, n_threads: int) -> dict:
    """The same in a process of its own."""
    found = subprocess.run(
        [sys.executable, __file__, "--one", str(model), repeats, str(n_rounds)],
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """All sizes in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="XS", choices=list(SIZES))
    parser.add_argument("--repeats", nargs="+", default=REPEATS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="of the machine, kept beside it")
    parser.add_argument("--one", nargs=3, metavar="PART", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    load_ops()
    if arguments.one:
        model, repeats, n_rounds = arguments.one
        print(json.dumps(measure(model, repeats, int(n_rounds))))
        return
    results: dict = {"note": arguments.note, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / f"{arguments.size}.pt"
        export_model(random_potential(arguments.size), model)
        for repeats in arguments.repeats:
            row = ask(model, repeats, arguments.rounds, arguments.threads)
            results[f"{arguments.size}, {row['n_atoms']} atoms"] = row
            print(
                f"{row['n_atoms']} atoms: {row['us_per_atom']:.0f} µs per atom "
                f"({row['cpu_us_per_atom']:.0f} of processor), "
                f"{row['kb_per_atom']:.0f} kB per atom, peak {row['peak_gb']:.2f} GB, "
                f"first evaluation {row['first_s']:.2f} s",
                flush=True,
            )
    print(f"written to {save('steady', results)}")


if __name__ == "__main__":
    main()

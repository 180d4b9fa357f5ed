"""Frames from files: extended XYZ, plain or packed, ASE databases, mapped or not.

Extended XYZ is cut into frames here: ASE reads packed multi-frame files in quadratic
time, and large ones it would hold in memory twice.
"""

import gzip
import hashlib
import io
import itertools
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase
import ase.db
import ase.io

from .mapped import SUFFIXES, MappedFrames
from .progress import progress


PACKED = {".xz": lzma.open, ".gz": gzip.open}
DATABASES = (".db",)


def read_frames(path: str | Path) -> Sequence[ase.Atoms]:
    """All frames of a file: extended XYZ, ``.xz`` and ``.gz`` too, or an ASE database.

    Databases are ``.db``, or memory-mapped ``.aselmdb``, whose frames are read when
    they are asked for. Key-value pairs and data of rows become entries of ``info``.

    Raises:
        ValueError: the file is missing, of another format, or has no frames.
    """
    path = Path(path)
    _check_exists(path)
    if path.suffix in SUFFIXES:
        frames: Sequence[ase.Atoms] = MappedFrames(path)
    else:
        frames = list(progress(stream_frames(path), f"reading {path.name}"))
    if len(frames) == 0:
        raise ValueError(
            f"{path} holds no structures; give a file with at least one frame"
        )
    return frames


def stream_frames(path: str | Path) -> Iterator[ase.Atoms]:
    """The frames of such a file one by one, whatever its size.

    Raises:
        ValueError: the file is missing or of another format.
    """
    path = Path(path)
    _check_exists(path)
    if path.suffix in SUFFIXES:
        yield from MappedFrames(path)
        return
    is_database = path.suffix in DATABASES
    kind = "an ASE database" if is_database else "extended XYZ"
    try:
        yield from _from_database(path) if is_database else _from_xyz(path)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as {kind} ({type(error).__name__}: {error}); "
            "convert it with `ase convert`"
        ) from error


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"no such data file: {path} (looked in {Path.cwd()})")


def _from_xyz(path: Path) -> Iterator[ase.Atoms]:
    with PACKED.get(path.suffix, open)(path, "rt") as file:
        while count := file.readline():
            if not count.strip():  # between files that were joined
                continue
            rest = itertools.islice(file, int(count) + 1)
            text = io.StringIO(count + "".join(rest))
            yield ase.io.read(text, format="extxyz")


def _from_database(path: Path) -> Iterator[ase.Atoms]:
    for row in ase.db.connect(path, append=True).select():
        atoms = row.toatoms()
        atoms.info.update({**row.data, **row.key_value_pairs})
        yield atoms


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()

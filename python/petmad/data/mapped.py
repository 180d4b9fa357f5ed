"""Memory-mapped files of millions of frames: the LMDB layout of ASE databases.

It is the layout in which OMat24 and its like are published, that of ase-db-backends: an
LMDB file with one record per frame under its number, from 1 on, ``nextid`` and
``deleted_ids``; each is JSON as ASE writes it, deflated. A file is opened, not read: a
frame is unpacked when it is asked for, and the system keeps of the file what fits.
"""

import functools
import os
import weakref
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import all_properties
from ase.db.row import AtomsRow
from ase.io.jsonio import decode, encode


SUFFIXES = (".aselmdb", ".lmdb")
PER_TRANSACTION = 1000
"""Frames written at once; more are hardly faster."""
LARGEST = 2**40
"""Bytes that a file may grow to; it takes no more than it needs."""


class MappedFrames(Sequence[ase.Atoms]):
    """The frames of one file, by index.

    Key-value pairs and data of a row become entries of ``info``, or of ``arrays`` where
    :func:`write_mapped` found them there. Other processes may be given it.

    Args:
        path: of the file, which is not written to.

    Raises:
        ValueError: the file is no such database, or the package to read it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = self.path.resolve()  # one file may be told in several ways
        try:
            next_id = self._get("nextid") or 1
            deleted = self._get("deleted_ids") or []
        except _import_lmdb().Error as error:
            raise ValueError(
                f"{path} cannot be read as an ASE-LMDB database ({error}); write one "
                "with `petmad data convert`"
            ) from error
        ids = np.arange(1, next_id, dtype=np.int64)
        self._ids = np.setdiff1d(ids, deleted)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> ase.Atoms:
        number = int(self._ids[index])
        record = self._get(str(number))
        for name in set(all_properties) & set(record):
            if isinstance(record[name], list):
                record[name] = np.array(record[name])
        row = AtomsRow({**record, "id": number})
        atoms = row.toatoms()
        data = dict(row.data)
        arrays = data.pop("arrays", {})
        atoms.info.update({**data, **row.key_value_pairs})
        for name, values in arrays.items():
            atoms.set_array(name, np.asarray(values))
        return atoms

    def _get(self, key: str) -> Any:
        """A record, or None."""
        state = self._file.stat()
        file = _open(str(self._file), state.st_ino, state.st_mtime_ns)
        with file.begin() as transaction:
            packed = transaction.get(key.encode("ascii"))
        return None if packed is None else decode(zlib.decompress(packed).decode())


def write_mapped(path: str | Path, frames: Iterable[ase.Atoms]) -> int:
    """Write a new file; returns the number of frames.

    Entries of ``info`` and ``arrays`` are kept, calculator results as such.

    Args:
        path: of a file that does not exist yet.
        frames: to write, taken one at a time.

    Raises:
        ValueError: the file exists or is misnamed, or the package for it is missing.
    """
    check_new(path)
    lmdb = _import_lmdb()
    # Whoever reads it needs no lock; nobody else writes it.
    with lmdb.open(str(path), subdir=False, map_size=LARGEST, lock=False) as file:
        count, batch = 0, []
        for atoms in frames:
            batch.append(_record(atoms))
            if len(batch) == PER_TRANSACTION:
                count = _write(file, batch, count)
                batch = []
        return _write(file, batch, count)


def check_new(path: str | Path) -> None:
    """Refuse to write over a file, or under a name by which it is not recognised.

    Raises:
        ValueError: the file exists or is misnamed.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path} must end in one of {', '.join(SUFFIXES)}, by which it is "
            "recognised; name it so"
        )
    if path.exists():
        raise ValueError(f"{path} exists already; remove it, or name another file")


def _write(file: Any, records: list[bytes], count: int) -> int:
    with file.begin(write=True) as transaction:
        for i, record in enumerate(records, start=count + 1):
            transaction.put(str(i).encode("ascii"), record)
        count += len(records)
        transaction.put(b"nextid", _pack(count + 1))
    return count


def _record(atoms: ase.Atoms) -> bytes:
    row = AtomsRow(atoms)
    own = ("numbers", "positions")
    arrays = {name: v for name, v in atoms.arrays.items() if name not in own}
    fields = {
        name: value
        for name, value in vars(row).items()
        if not name.startswith("_") and name not in ("id", "data", "key_value_pairs")
    }
    fields["cell"] = np.asarray(row.cell)
    fields["data"] = {**atoms.info, "arrays": arrays}
    return _pack(fields)


def _pack(value: Any) -> bytes:
    return zlib.compress(encode(value).encode())


_opened: weakref.WeakSet = weakref.WeakSet()
"""Files that are open in this process."""


@functools.lru_cache(maxsize=64)
def _open(path: str, inode: int, changed: int) -> Any:
    """An open file; LMDB wants one opening of a file per process, none inherited."""
    for stale in [file for file in _opened if file.path() == path]:
        stale.close()  # what the file was before it changed
        _opened.discard(stale)
    file = _import_lmdb().open(
        path, subdir=False, readonly=True, lock=False, readahead=False, max_readers=1
    )
    _opened.add(file)
    return file


def _close_inherited() -> None:
    """Close what a process was forked with; else it could not open it for itself."""
    for file in list(_opened):
        file.close()
    _opened.clear()
    _open.cache_clear()


os.register_at_fork(after_in_child=_close_inherited)


def _import_lmdb() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ValueError(
            "memory-mapped data need the package lmdb, which is not installed "
            f"({error}); `pip install 'petmad[lmdb]'` brings it"
        ) from error
    return lmdb

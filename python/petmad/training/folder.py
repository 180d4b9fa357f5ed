"""The folder of a training: of one training, and held by one process at a time."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path


LOG = logging.getLogger(__name__)
LOCK = ".lock"
"""Stays when the training is over; what counts is whether a process holds it."""
_held: set[int] = set()
"""Open locks of this process."""


def check_free(folder: Path, resume: str | Path | None) -> None:
    """Refuse to write over another training.

    Raises:
        ValueError: the folder holds one that is not the one resumed, or that runs.
    """
    if (folder / LOCK).exists():
        with held(folder):
            pass
    check_contents(folder, resume)


def check_contents(folder: Path, resume: str | Path | None) -> None:
    """:func:`check_free` of what is in the folder."""
    if resume is not None and Path(resume).absolute().parent.resolve() == (
        folder.absolute().resolve()
    ):
        return
    last = folder / "last.ckpt"
    if last.exists() or (folder / "best.ckpt").exists():
        other = "" if resume is None else f", which is not that of {resume}"
        ways = [f"continue it with `--resume {last}`"] if last.exists() else []
        ways += ["name another folder with `--output`", "or remove it"]
        raise ValueError(f"{folder} already holds a training{other}; {', '.join(ways)}")


@contextlib.contextmanager
def claimed(folder: Path, resume: str | Path | None) -> Iterator[None]:
    """Make the folder, and hold it against other trainings.

    Raises:
        ValueError: see :func:`check_free`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        # A training of others may have run here since the folder was looked at.
        check_contents(folder, resume)
        yield


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system drops it when the process dies.

    Where the file system has no locks, the folder is not held, and a warning says so.

    Raises:
        ValueError: another training holds it.
    """
    descriptor = None
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _close(descriptor)
        raise ValueError(
            f"{folder} is in use by a training that runs; wait for its end, or name "
            "another folder with `--output`"
        ) from None
    except OSError as error:
        LOG.warning(
            "%s cannot be locked (%s); start no second training in it",
            folder,
            error.strerror,
        )
    try:
        yield
    finally:
        _close(descriptor)


def _close(descriptor: int | None) -> None:
    if descriptor in _held:
        _held.remove(descriptor)
        os.close(descriptor)


def _close_inherited() -> None:
    """Let workers of a killed process not hold its folder."""
    for descriptor in list(_held):
        _close(descriptor)


os.register_at_fork(after_in_child=_close_inherited)

"""Threads that a fork leaves behind.

A forked process has none of the threads that torch had in its parent, and waits for
them for ever. Those who begin work ask here first.
"""

import os

import torch


LOST = (
    "was made in another process, or after a fork of one, whose threads a fork lacks; "
    "start processes with the method `spawn` (or `forkserver`) and make the calculator "
    "there, or give each one thread: `n_threads=1`"
)
_state = {"used": False, "lost": False}


def note_use() -> None:
    """Remember that torch has worked in this process, with threads."""
    _state["used"] |= torch.get_num_threads() > 1


def check_fork(n_threads: int = 0) -> None:
    """Refuse to work with threads that stayed with the parent.

    Args:
        n_threads: that are going to be set; 0: as they are.

    Raises:
        RuntimeError: the parent has used threads, and this process would.
    """
    if _state["lost"] and (n_threads or torch.get_num_threads()) > 1:
        raise RuntimeError(f"this calculator {LOST}")


def _after_fork() -> None:
    _state["lost"] |= _state["used"]


os.register_at_fork(after_in_child=_after_fork)

"""A bar for what takes long, on terminals only: logs stay free of it."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar


LOG = logging.getLogger(__name__)
Item = TypeVar("Item")
DELAY = 1.0
"""Seconds of work before which no bar is worth showing."""


def progress(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items one by one, under a bar on standard error if that is a terminal.

    Whoever asks for errors alone has no bar.

    Args:
        items: a sequence, or an iterator, of which the bar shows the number alone.
        what: is done with them.
    """
    if not (sys.stderr.isatty() and LOG.isEnabledFor(logging.WARNING)):
        yield from items
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # it comes with the packages of training
        yield from items
        return
    total = len(items) if isinstance(items, Sequence) else None
    yield from tqdm(items, desc=what, total=total, delay=DELAY, leave=False)

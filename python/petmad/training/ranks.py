"""Which process of a training writes and speaks: the first one alone."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from lightning.pytorch.utilities import rank_zero_only

from .options import TrainingOptions


def is_first(options: TrainingOptions) -> bool:
    """Whether this is the first process of a training, or its only one."""
    if options.n_processes == 1:
        return True
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    # Without a queue a node's first process has no rank before Lightning has joined it.
    is_elsewhere = "RANK" not in os.environ and node != "0"
    return rank_zero_only.rank == 0 and not is_elsewhere


@contextlib.contextmanager
def one_voice(options: TrainingOptions) -> Iterator[None]:
    """Let processes but the first tell errors alone, and show no progress."""
    if is_first(options):
        yield
        return
    logger = logging.getLogger("petmad")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

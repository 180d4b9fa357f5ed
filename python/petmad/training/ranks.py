"""Which process of a training writes and speaks: the first one alone."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from lightning.pytorch.utilities import rank_zero_only

from .options import TrainingOptions


def is_first(options: TrainingOptions) -> bool:
    """Whether this is the first process of a training, or its only one."""
    return options.devices == 1 or rank_zero_only.rank == 0


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

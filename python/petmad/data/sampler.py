"""Batches of an endless, reproducible stream that can be entered at any step."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler


Key = tuple[int, int]
"""Epoch and index of a structure."""


class ResumableBatchSampler(Sampler[list[Key]]):
    """Shuffled batches of ``(epoch, index)``; the last, incomplete one is dropped.

    The order of an epoch is a function of seed and epoch alone. An iteration begins at
    the optimizer step that ``current_step`` tells, so that a training resumed inside an
    epoch sees exactly the batches it had not seen.

    Args:
        n_samples: size of the data set.
        batch_size: structures per batch and rank.
        seed: of the training.
        current_step: tells the number of optimizer steps done.
        rank: of this process.
        n_ranks: processes that share an epoch.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        seed: int,
        current_step: Callable[[], int],
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self._n_samples = n_samples
        self._batch_size = batch_size
        self._seed = seed
        self._current_step = current_step
        self._rank = rank
        self._n_ranks = n_ranks
        self._n_batches = steps_per_epoch(n_samples, batch_size, n_ranks)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = divmod(self._current_step(), self._n_batches)
        order = np.random.default_rng([self._seed, epoch]).permutation(self._n_samples)
        for i in range(first, self._n_batches):
            start = (i * self._n_ranks + self._rank) * self._batch_size
            yield [(epoch, int(k)) for k in order[start : start + self._batch_size]]


def steps_per_epoch(n_samples: int, batch_size: int, n_ranks: int = 1) -> int:
    """Optimizer steps in one epoch.

    Raises:
        ValueError: there are fewer structures than one step needs.
    """
    n_steps = n_samples // (batch_size * n_ranks)
    if n_steps == 0:
        raise ValueError(
            f"{n_samples} training structures do not fill one batch: "
            f"`training.batch_size` is {batch_size} on {n_ranks} device(s); lower it "
            "or add structures"
        )
    return n_steps

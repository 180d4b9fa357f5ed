"""Batches of an endless, reproducible stream that can be entered at any step.

Batches hold a number of structures or, for sets of mixed sizes, as many as a number of
atoms allows. The order of an epoch is a function of seed and epoch alone.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


Key = tuple[int, int]
"""Epoch and index of a structure."""


class ResumableBatchSampler(Sampler[list[Key]]):
    """Shuffled batches of ``(epoch, index)``; an incomplete last one is dropped.

    An iteration begins at the optimizer step that ``current_step`` tells, so that a
    training resumed inside an epoch sees exactly the batches it had not seen.

    Args:
        n_samples: size of the data set.
        batch_size: structures per batch and rank.
        seed: of the training.
        current_step: tells the number of optimizer steps done.
        rank: of this process.
        n_ranks: processes that share an epoch.
        packing: batches by atoms instead of structures; ``batch_size`` is ignored.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        seed: int,
        current_step: Callable[[], int],
        rank: int = 0,
        n_ranks: int = 1,
        packing: "AtomPacking | None" = None,
    ) -> None:
        self._n_samples = n_samples
        self._batch_size = batch_size
        self._seed = seed
        self._current_step = current_step
        self._rank = rank
        self._n_ranks = n_ranks
        self._packing = packing
        self._n_batches = (
            steps_per_epoch(n_samples, batch_size, n_ranks)
            if packing is None
            else packing.n_batches // n_ranks
        )

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = divmod(self._current_step(), self._n_batches)
        order = shuffled(self._n_samples, self._seed, epoch)
        if self._packing is None:
            edges = np.arange(0, self._n_samples + 1, self._batch_size)
        else:
            edges = self._packing.edges(order)
        for i in range(first, self._n_batches):
            k = i * self._n_ranks + self._rank
            yield [(epoch, int(j)) for j in order[edges[k] : edges[k + 1]]]


def shuffled(n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Order [n_samples] of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n_samples)


class AtomPacking:
    """Batches of consecutive structures with at most so many atoms each.

    Epochs pack into slightly different numbers of batches. All are given as many as the
    one with the fewest, so that the length of the training is known; what is left over
    is dropped, as is the last batch of a fixed size.

    Args:
        sizes: [n_samples] atoms of each structure.
        max_atoms: most atoms per batch and rank.
        seed: of the training.
        n_epochs: of the training.
        n_ranks: processes that share an epoch.

    Raises:
        ValueError: one structure is larger than a batch, or ranks remain without one.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        max_atoms: int,
        seed: int,
        n_epochs: int,
        n_ranks: int = 1,
    ) -> None:
        self._sizes = np.asarray(sizes)
        self._max_atoms = max_atoms
        largest = int(self._sizes.max())
        if largest > max_atoms:
            raise ValueError(
                f"a training structure has {largest} atoms, more than a batch may have "
                f"(`training.batch_atoms` is {max_atoms}); raise it to {largest}"
            )
        orders = (shuffled(len(self._sizes), seed, epoch) for epoch in range(n_epochs))
        self.n_batches = min(len(self.edges(order)) - 1 for order in orders)
        if self.n_batches < n_ranks:
            raise ValueError(
                f"{len(self._sizes)} training structures fill {self.n_batches} batches "
                f"of `training.batch_atoms` {max_atoms}, fewer than {n_ranks} devices; "
                "lower it or add structures"
            )

    def edges(self, order: np.ndarray) -> np.ndarray:
        """Where each batch begins in ``order``, and where the last one ends."""
        ends = np.cumsum(self._sizes[order])
        edges = [0]
        while edges[-1] < len(order):
            used = ends[edges[-1] - 1] if edges[-1] > 0 else 0
            end = np.searchsorted(ends, used + self._max_atoms, side="right")
            edges.append(int(end))
        return np.array(edges)


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

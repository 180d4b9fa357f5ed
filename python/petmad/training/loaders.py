"""Loaders of batches: training can be entered at any step, validation is shared out."""

from collections.abc import Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from petmad.data import Sample, StructureDataset, collate
from petmad.data.lazy import sizes_of
from petmad.data.sampler import AtomPacking, ResumableBatchSampler, steps_per_epoch
from petmad.model import TargetSpec

from .options import TrainingOptions


class ResumableLoader(DataLoader):
    """A loader whose position is the trainer's step.

    The two methods tell Lightning that it may resume inside an epoch; the sampler reads
    the step by itself, so there is nothing to keep.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore."""


class Chunks(Dataset):
    """Consecutive samples by so many, made when they are asked for."""

    def __init__(self, samples: Sequence[Sample], indices: range, size: int) -> None:
        self._samples = samples
        self._chunks = [indices[i : i + size] for i in range(0, len(indices), size)]

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> list[Sample]:
        return [self._samples[i] for i in self._chunks[index]]


def atom_packing(
    samples: Sequence[Sample], options: TrainingOptions
) -> AtomPacking | None:
    """Batches by number of atoms, where the options ask for them."""
    if options.batch_atoms is None:
        return None
    return AtomPacking(
        sizes_of(samples),
        options.batch_atoms,
        options.seed,
        options.epochs,
        options.n_processes,
    )


def count_steps(samples: Sequence[Sample], options: TrainingOptions) -> int:
    """Optimizer steps in one epoch.

    Raises:
        ValueError: the structures do not fill a batch, or one does not fit into it.
    """
    packing = atom_packing(samples, options)
    if packing is not None:
        return packing.n_batches // options.n_processes
    return steps_per_epoch(len(samples), options.batch_size, options.n_processes)


def train_loader(
    samples: Sequence[Sample],
    options: TrainingOptions,
    trainer: lightning.Trainer,
    targets: Sequence[TargetSpec] = (),
) -> DataLoader:
    """Shuffled, turned batches of this rank, from the trainer's step on."""
    sampler = ResumableBatchSampler(
        len(samples),
        options.batch_size,
        options.seed,
        current_step=lambda: trainer.global_step,
        rank=trainer.global_rank,
        n_ranks=trainer.world_size,
        packing=atom_packing(samples, options),
    )
    return ResumableLoader(
        StructureDataset(samples, options.seed if options.rotate else None, targets),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=options.num_workers,
        persistent_workers=options.num_workers > 0,
    )


def valid_loader(
    samples: Sequence[Sample], options: TrainingOptions, trainer: lightning.Trainer
) -> DataLoader:
    """This rank's share of the validation structures, each used exactly once.

    Raises:
        ValueError: there are fewer structures than ranks.
    """
    if len(samples) < trainer.world_size:
        raise ValueError(
            f"{len(samples)} validation structures cannot be shared by "
            f"{trainer.world_size} processes; add structures or lower "
            "`training.devices`"
        )
    mine = range(trainer.global_rank, len(samples), trainer.world_size)
    chunks = Chunks(samples, mine, options.batch_size)
    return DataLoader(chunks, batch_size=None, collate_fn=collate)

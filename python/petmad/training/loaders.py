"""Loaders of batches: training can be entered at any step, validation is shared out."""

from collections.abc import Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader

from petmad.data import Sample, StructureDataset, collate
from petmad.data.sampler import ResumableBatchSampler
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
            f"{trainer.world_size} devices; add structures or lower `training.devices`"
        )
    mine = samples[trainer.global_rank :: trainer.world_size]
    size = options.batch_size
    chunks = [mine[i : i + size] for i in range(0, len(mine), size)]
    return DataLoader(chunks, batch_size=None, collate_fn=collate)

"""Consecutive parts of a training, each with its own loss and learning rate.

Which one a step is in, and its learning rate there, are functions of the step alone, so
that any can be resumed.
"""

from typing import NamedTuple

from .loss_options import LossOptions
from .options import TrainingOptions
from .schedule import learning_rate_factor


class Stage(NamedTuple):
    """A part of a training.

    Attributes:
        loss: that is minimised.
        learning_rate: its peak.
        first: step of the training it begins with.
        n_steps: of it.
    """

    loss: LossOptions
    learning_rate: float
    first: int
    n_steps: int


def losses_of(options: TrainingOptions) -> list[LossOptions]:
    """Of every stage; of the training where it has none."""
    return [stage.loss for stage in options.stages] or [options.loss]


def stages_of(options: TrainingOptions, n_steps: int) -> list[Stage]:
    """All parts of a training of so many steps, the whole where it has none."""
    if not options.stages:
        return [Stage(options.loss, options.learning_rate, 0, n_steps)]
    per_epoch = n_steps // options.epochs
    stages, first = [], 0
    for part in options.stages:
        rate = part.learning_rate or options.learning_rate
        stages.append(Stage(part.loss, rate, first, part.epochs * per_epoch))
        first += stages[-1].n_steps
    return stages


def stage_at(stages: list[Stage], step: int) -> Stage:
    """The part that a step is in; after the last step, the last."""
    return [stage for stage in stages if stage.first <= step][-1]


def learning_rate_at(stage: Stage, step: int, warmup_fraction: float) -> float:
    """Of a step of the whole training: warm-up and half a cosine in each stage."""
    n_warmup = int(warmup_fraction * stage.n_steps)
    factor = learning_rate_factor(step - stage.first, stage.n_steps, n_warmup)
    return stage.learning_rate * factor

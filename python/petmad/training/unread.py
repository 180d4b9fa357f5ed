"""Options that were given, but are not read beside the others, or contradict them."""

from collections.abc import Iterable

from .data_options import DataOptions
from .finetune_options import FinetuneOptions
from .options import Options, TrainingOptions
from .section import Section


def without_effect(options: Options) -> list[str]:
    """Options that differ from their default, but are not read in such a training."""
    training, data = options.training, options.data
    findings = []
    if training.start_from is None:
        kind = "in a training from scratch, without `training.start_from`"
        findings += unread(options.finetune, "finetune", FinetuneOptions(), kind)
    else:
        kind = "in a training that starts from a model, which has it already"
        names = ("energy_scale", "embedding_gain")
        findings += unread(training, "training", TrainingOptions(), kind, names)
        if training.parameters != "lora":
            kind = f"with `training.parameters: {training.parameters}`"
            names = ("rank", "alpha", "lora_init", "lora_layers", "train_heads")
            findings += unread(
                options.finetune, "finetune", FinetuneOptions(), kind, names
            )
    default = DataOptions(train="none")
    if data.valid is not None and all(
        level.train is None or level.valid is not None for level in data.levels.values()
    ):
        kind = "beside `data.valid`"
        names = ("valid_fraction", "split_seed", "group_key")
        findings += unread(data, "data", default, kind, names)
    for section, level in data.sections.items():
        for label in ("energy", "forces", "stress", "virial"):
            if getattr(level, f"{label}_key") is None:
                kind = f"without `{section}.{label}_key`"
                findings += unread(level, section, default, kind, [f"{label}_unit"])
    return findings


def check_new(training: TrainingOptions) -> None:
    """Refuse to start what makes no sense, though what has been started goes on.

    Raises:
        ValueError: says which options contradict each other.
    """
    losses = [stage.loss for stage in training.stages]
    if training.monitor == "loss" and any(loss != losses[0] for loss in losses):
        raise ValueError(
            "`training.monitor: loss` would compare the losses of `training.stages`, "
            "which are not the same; monitor an error, such as mae_prod"
        )
    if training.mixed_precision and training.dtype == "float64":
        raise ValueError(
            "`training.mixed_precision` runs products of a network in float32 in "
            "bfloat16, but `training.dtype` is float64; choose one of both"
        )


def unread(
    given: Section, place: str, default: Section, kind: str, names: Iterable[str] = ()
) -> list[str]:
    """Options of a section, or some, that are not as by default, though not read."""
    return [
        f"`{place}.{name}` has no effect {kind}"
        for name in names or type(default).model_fields
        if getattr(given, name) != getattr(default, name)
    ]

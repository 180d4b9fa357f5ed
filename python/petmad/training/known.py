"""Whether structures have the labels that a training learns, and those it is judged by.

Labels are told by the names of their terms in the loss, or of their targets.
"""

from collections import Counter
from collections.abc import Sequence

import torch

from petmad.data import Sample
from petmad.data.lazy import labels_of

from .loss_options import LossOptions
from .options import Options
from .splits import Splits
from .stages import losses_of
from .trained import trains_energy


def check_known(splits: Splits, options: Options) -> None:
    """Refuse structures of which nothing could be learned, or no model chosen.

    Raises:
        ValueError: names the labels that are needed, and those that are there.
    """
    for loss in losses_of(options.training):
        names = weighted(loss, options)
        if not any_known(splits.train, names):
            raise ValueError(
                f"no training structure has a label that the loss has a weight for "
                f"({_list(names)}); they have {_list(all_known(splits.train))}; give "
                "one of these a weight, or name the labels of the files in `data`"
            )
    names = monitored(options)
    if not any_known(splits.valid, names):
        raise ValueError(
            f"`training.monitor` is {options.training.monitor}, but no validation "
            f"structure has {_list(names)}; they have "
            f"{_list(all_known(splits.valid))}; monitor another number, or validate "
            "on structures with these labels"
        )


def weighted(loss: LossOptions, options: Options) -> set[str]:
    """Labels with a weight in a loss."""
    targets = {name for name, target in options.targets.items() if target.has_weight}
    return targets | (loss.weighted if trains_energy(options) else set())


def monitored(options: Options) -> set[str]:
    """Labels of which one at least is needed for the number that is monitored."""
    monitor = options.training.monitor
    if monitor in ("energy_mae", "forces_mae"):
        return {monitor.removesuffix("_mae")}
    if monitor == "loss":
        losses = losses_of(options.training)
        return set().union(*(weighted(loss, options) for loss in losses))
    return {"energy", "forces", *options.targets}


def known(sample: Sample) -> set[str]:
    """Labels that a structure has."""
    values = {
        "energy": sample.energy,
        "forces": sample.forces,
        "stress": sample.strain_gradients,
        **sample.tensors,
    }
    if int(sample.level) == 0:
        values["direct_forces"] = sample.forces
        values["direct_stress"] = sample.strain_gradients
    return {name for name, value in values.items() if not torch.isnan(value).all()}


def any_known(samples: Sequence[Sample], names: set[str]) -> bool:
    """Whether any structure has any of these labels; looks no further than needed."""
    return any(names & known(sample) for sample in labels_of(samples))


def all_known(samples: Sequence[Sample]) -> set[str]:
    """Labels that any structure has, each by one name."""
    found = set().union(*(known(sample) for sample in labels_of(samples)))
    return found - {"direct_forces", "direct_stress"}


def count_labels(samples: Sequence[Sample]) -> str:
    """How many samples have each label, in a line; no energies, where none is read."""
    counts = Counter(name for sample in samples for name in known(sample))
    names = list(samples[0].tensors)
    if counts["energy"] > 0:
        names = ["energy", "forces", "stress", *names]
    parts = [f"{name} {counts[name]}" for name in names]
    return f"labels: {', '.join(parts)} of {len(samples)} training structures"


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"

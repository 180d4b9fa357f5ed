"""Starting from a model that is trained already: converted, exported, or a checkpoint.

What it knows is inherited: hyperparameters, elements, weights, composition and scale.
Its heads of other targets are left behind, since they would not fit the network any
more after training it on energies alone; so is its uncertainty.
"""

import logging

import torch

from petmad.model import Potential, TargetSpec

from .checkpoint import load_any
from .options import ModelOptions, Options


LOG = logging.getLogger(__name__)
ENERGY = "energy"


def load_start(options: Options) -> Potential | None:
    """The model of ``training.start_from`` in the dtype of the training, or None.

    Raises:
        ValueError: the file has no energy, or the options contradict it.
    """
    path = options.training.start_from
    if path is None:
        return None
    origin, _ = load_any(path)
    if ENERGY not in origin.target_names:
        raise ValueError(
            f"`training.start_from`: {path} predicts {origin.target_names}, but no "
            f"{ENERGY!r} to train; give another model"
        )
    _check_options(options, origin)
    potential = only_energy(origin)
    left = [name for name in origin.target_names if name != ENERGY]
    if left:
        LOG.info("targets of %s that are not trained: %s", path, ", ".join(left))
    if any(spec.has_uncertainty for spec in origin.targets):
        LOG.info("the uncertainty of %s is left behind", path)
    return potential.to_dtype(getattr(torch, options.training.dtype)).train()


def complete(options: Options, start: Potential | None) -> Options:
    """Options with the hyperparameters and elements of the model to start from."""
    if start is None:
        return options
    hypers = {**start.config.to_dict(), "long_range": None}
    data = options.data.model_copy(update={"atomic_numbers": start.atomic_numbers})
    update = {"model": ModelOptions(**hypers), "data": data}
    return options.model_copy(update=update)


def only_energy(origin: Potential) -> Potential:
    """The same energy without other targets; composition and scale included."""
    index = origin.target_names.index(ENERGY)
    radii = None if origin.zbl is None else origin.zbl.radii.tolist()
    energy = [TargetSpec(ENERGY)]
    potential = Potential(origin.config, origin.atomic_numbers, energy, radii)
    potential.to_dtype(next(origin.network.parameters()).dtype)
    state = origin.state_dict()
    own = {}
    for name in potential.state_dict():
        part, _, rest = name.partition(".0")
        is_indexed = part in ("readouts", "scales", "compositions")
        own[name] = state[f"{part}.{index}{rest}" if is_indexed else name]
    potential.load_state_dict(own)
    return potential


def _check_options(options: Options, origin: Potential) -> None:
    """Refuse options that say other than the model.

    Raises:
        ValueError: names the first that does.
    """
    given, default = options.model.to_dict(), ModelOptions().to_dict()
    for name, value in origin.config.to_dict().items():
        if given[name] not in (default[name], value):
            raise ValueError(
                f"`model.{name}` is {given[name]}, but the model of "
                f"`training.start_from` has {value}; leave the `model` section out"
            )
    elements = options.data.atomic_numbers
    if elements and not set(elements) <= set(origin.atomic_numbers):
        raise ValueError(
            f"`data.atomic_numbers` names {sorted(elements)}, but the model of "
            f"`training.start_from` knows {origin.atomic_numbers}; new elements cannot "
            "be added"
        )

"""Starting from a model that is trained already: converted, exported, or a checkpoint.

What it knows is inherited: hyperparameters, elements, weights, composition and scale.
Targets of the options that it does not have get new heads. When the network is trained,
targets that are not are left behind, since they would not fit it any more; so is the
uncertainty. When the heads alone are trained, all other targets are kept, bit for bit.
"""

import logging
from typing import NamedTuple

import lightning
import torch

from petmad.model import Potential, TargetSpec

from .adapt import with_species
from .checkpoint import load_any
from .direct import direct_targets
from .loss import ENERGY
from .options import ModelOptions, Options
from .tensors import tensor_targets
from .trained import trained_energies, trains_energy


LOG = logging.getLogger(__name__)


class Start(NamedTuple):
    """A model to start from.

    Attributes:
        potential: with the targets of the options, in the dtype of the training.
        new_targets: names of those that the file does not have. Tensors have random
            heads, neither composition nor scale; energies those of another energy.
    """

    potential: Potential
    new_targets: list[str]


def load_start(options: Options) -> Start | None:
    """The model of ``training.start_from``, or None.

    Raises:
        ValueError: the file has no energy to train, or the options contradict it.
    """
    path = options.training.start_from
    if path is None:
        return None
    origin, _ = load_any(path)
    if trains_energy(options) and ENERGY not in origin.target_names:
        raise ValueError(
            f"`training.start_from`: {path} predicts {origin.target_names}, but no "
            f"{ENERGY!r} to train; give another model, or train other targets alone "
            "with `data.energy_key: null`"
        )
    origin = with_species(origin, options.finetune.new_species)
    _check_options(options, origin)
    specs = start_targets(options, origin)
    direct = [spec.name for spec in direct_targets(options.training)]
    _log_targets(path, origin, specs)
    new = [
        spec.name
        for spec in specs
        if not _is_inherited(spec, origin)
        and spec.name in {*options.targets, *trained_energies(options), *direct}
    ]
    lightning.seed_everything(options.training.seed, verbose=False)  # of new heads
    copies = {name: _parent(name, options, origin) for name in new if is_energy(name)}
    potential = with_targets(origin, specs, new, copies)
    dtype = getattr(torch, options.training.dtype)
    return Start(potential.to_dtype(dtype).train(), new)


def complete(options: Options, start: Start | None) -> Options:
    """Options with the hyperparameters and elements of the model to start from."""
    if start is None:
        return options
    potential = start.potential
    hypers = {**potential.config.to_dict(), "long_range": None}
    data = options.data.model_copy(update={"atomic_numbers": potential.atomic_numbers})
    update = {"model": ModelOptions(**hypers), "data": data}
    return options.model_copy(update=update)


def start_targets(options: Options, origin: Potential) -> list[TargetSpec]:
    """Targets of the model in training: those to be trained, and those that are kept.

    A target of the options that the model has in another form takes its place.
    """
    wanted = {target.spec.name: target.spec for target in tensor_targets(options)}
    wanted |= {spec.name: spec for spec in direct_targets(options.training)}
    energies = {name: TargetSpec(name) for name in trained_energies(options)}
    if options.training.parameters == "heads":
        kept = {spec.name: spec for spec in origin.targets}
        if trains_energy(options):
            kept.update(energies)
    else:
        kept = energies
    return list({**kept, **wanted}.values())


def is_energy(name: str) -> bool:
    """Whether a target is an energy of some level of theory, by its name."""
    return name == ENERGY or name.startswith(f"{ENERGY}/")


def _parent(name: str, options: Options, origin: Potential) -> str:
    """The energy that a new one begins as a copy of.

    Raises:
        ValueError: the model has none of that name.
    """
    parent = options.finetune.inherit.get(name, ENERGY)
    known = [other for other in origin.target_names if is_energy(other)]
    if parent not in known:
        raise ValueError(
            f"`finetune.inherit`: {name} cannot start from {parent!r}; the model of "
            f"`training.start_from` has {known}"
        )
    return parent


def with_targets(
    origin: Potential,
    specs: list[TargetSpec],
    new: list[str],
    copies: dict[str, str] | None = None,
    fresh_uncertainty: str = "",
) -> Potential:
    """The same model with these targets; those not ``new`` inherit all of theirs.

    Args:
        origin: the model.
        specs: targets.
        new: names of those with random heads.
        copies: new ones that inherit all from another target.
        fresh_uncertainty: target whose uncertainty is not inherited.
    """
    sources = {spec.name: spec.name for spec in specs if spec.name not in new}
    sources.update({"": "", **(copies or {})})
    radii = None if origin.zbl is None else origin.zbl.radii.cpu().tolist()
    potential = Potential(origin.config, origin.atomic_numbers, specs, radii)
    potential.to_dtype(next(origin.network.parameters()).dtype)
    inherited = _by_target(origin)
    state = [
        inherited[part, sources[target], rest]
        if target in sources
        and not (part == "uncertainties" and target == fresh_uncertainty)
        else value
        for (part, target, rest), value in _by_target(potential).items()
    ]
    names = list(potential.state_dict())
    potential.load_state_dict(dict(zip(names, state, strict=True)))
    return potential


def _by_target(potential: Potential) -> dict[tuple[str, str, str], torch.Tensor]:
    """The state, in order, by part, target (empty where there is none) and the rest."""
    sure = [spec.name for spec in potential.targets if spec.has_uncertainty]
    owners = {
        "readouts": potential.target_names,
        "scales": potential.target_names,
        "compositions": potential.target_names,
        "uncertainties": sure,
    }
    state = {}
    for name, value in potential.state_dict().items():
        part, _, rest = name.partition(".")
        if part in owners:
            index, _, rest = rest.partition(".")
            state[part, owners[part][int(index)], rest] = value
        else:
            state[part, "", rest] = value
    return state


def _is_inherited(spec: TargetSpec, origin: Potential) -> bool:
    """Whether the file has the target in this form, whatever its uncertainty."""
    plain = {"has_uncertainty": False, "n_members": 0}
    known = [{**other.to_dict(), **plain} for other in origin.targets]
    return {**spec.to_dict(), **plain} in known


def _log_targets(path: str, origin: Potential, specs: list[TargetSpec]) -> None:
    """Say what is left behind."""
    names = {spec.name: spec for spec in specs}
    left = [name for name in origin.target_names if name not in names]
    if left:
        LOG.info("targets of %s that are not trained: %s", path, ", ".join(left))
    sure = [spec.name for spec in origin.targets if spec.has_uncertainty]
    if any(name in left or not names[name].has_uncertainty for name in sure):
        LOG.info("the uncertainty of %s is left behind", path)


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
            f"`training.start_from` knows {origin.atomic_numbers}; add new elements "
            "with `finetune.new_species`"
        )
    dtype = str(next(origin.network.parameters()).dtype).removeprefix("torch.")
    if options.training.parameters == "heads" and dtype != options.training.dtype:
        raise ValueError(
            f"`training.dtype` is {options.training.dtype}, but the network to be kept "
            f"is {dtype}; set `training.dtype: {dtype}`"
        )

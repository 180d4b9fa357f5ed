"""The uncertainty wrapper (LLPR) of a checkpoint, versions 1 to 4."""

from typing import Any, NamedTuple

import torch

from petmad.model import Potential
from petmad.model.uncertainty import Uncertainty, factorize


NEWEST = 4


class Wrapper(NamedTuple):
    """What the wrapper adds to a model."""

    version: int
    state: dict[str, torch.Tensor]


def uncertainty_name(target: str) -> str:
    """Upstream's name of the uncertainty of a target."""
    if target == "energy":
        return "energy_uncertainty"
    return f"mtt::aux::{target.replace('mtt::', '')}_uncertainty"


def open_wrapper(checkpoint: dict[str, Any], path: Any) -> Wrapper:
    """The wrapper's state under the names of version 4.

    Raises:
        ValueError: a newer version, or no weights.
    """
    version = checkpoint.get("model_ckpt_version") or 1
    if version > NEWEST:
        raise ValueError(
            f"{path} has version {version} of the uncertainty wrapper (LLPR); "
            f"petmad reads versions 1 to {NEWEST}: upgrade petmad"
        )
    names = ("best_model_state_dict", "model_state_dict", "state_dict")
    found = [checkpoint[name] for name in names if checkpoint.get(name)]
    if not found:
        raise ValueError(
            f"{path} has an uncertainty wrapper without weights "
            "(`model_state_dict` is missing); take the file as its training wrote it"
        )
    state = dict(found[0])
    suffix = "_ensemble_weights"
    for key in [key for key in state if key.endswith(suffix)]:  # versions 1 and 2
        target = key.removesuffix(suffix).removeprefix("mtt::aux::")
        state[f"llpr_ensemble_layers.{target}.weight"] = state.pop(key).T
    return Wrapper(version, state)


def n_members(wrapper: Wrapper, target: str, n_components: int) -> int:
    """Size of the ensemble around a target; 0 where there is none."""
    weight = wrapper.state.get(f"llpr_ensemble_layers.{target}.weight")
    return 0 if weight is None else len(weight) // n_components


def has_uncertainty(wrapper: Wrapper, target: str) -> bool:
    """Whether the wrapper covers a target."""
    name = uncertainty_name(target)
    return f"cholesky_{name}" in wrapper.state or f"covariance_{name}" in wrapper.state


def cholesky(wrapper: Wrapper, target: str) -> torch.Tensor:
    """L of a target, [width, width] lower triangular, float64.

    Files before version 4 have the covariance alone.
    """
    name = uncertainty_name(target)
    if f"cholesky_{name}" in wrapper.state:
        return wrapper.state[f"cholesky_{name}"].to(torch.float64)
    covariance = wrapper.state[f"covariance_{name}"]
    return factorize(covariance).to(covariance.dtype).to(torch.float64)


def fill_uncertainties(
    potential: Potential, sources: list[str], wrapper: Wrapper
) -> None:
    """Set the uncertainties of a model from the wrapper, in place.

    Args:
        potential: with specs that tell which targets have one.
        sources: the file's name of each of its targets.
        wrapper: of the same file.
    """
    modules: dict[str, Uncertainty] = {u.target: u for u in potential.uncertainties}
    for name, source in zip(potential.target_names, sources, strict=True):
        if name not in modules:
            continue
        module = modules[name]
        parts = {
            "cholesky": cholesky(wrapper, source),
            "multiplier": wrapper.state[f"multiplier_{uncertainty_name(source)}"],
        }
        if module.n_members > 0:
            parts["members"] = wrapper.state[f"llpr_ensemble_layers.{source}.weight"]
        for part, value in parts.items():
            buffer = getattr(module, part)
            value = value.reshape(buffer.shape) if buffer.dim() == 0 else value
            if value.shape != buffer.shape:
                raise ValueError(
                    f"the uncertainty of {source!r} has {part} of shape "
                    f"{list(value.shape)} instead of {list(buffer.shape)}; take the "
                    "file as its training wrote it"
                )
            buffer.copy_(value)

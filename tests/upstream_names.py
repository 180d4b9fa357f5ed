"""Names of our parameters in upstream's checkpoints (metatrain, ``pet`` version 16)."""

import re

import numpy as np
import torch
from seeded_weights import fingerprint, seeded_weight

from petmad.model import Potential


READOUT = re.compile(r"readouts\.(\d+)\.(node|edge)_(heads|last)\.(\d+)\.(.+)")


def upstream_name(key: str, targets: list[str]) -> str | None:
    """Upstream's name, without ``backend.``, of our state-dict key, or None.

    Scales and compositions are kept elsewhere upstream, and ZBL there has no buffers.
    """
    if key.startswith("network."):
        return key.removeprefix("network.")
    match = READOUT.fullmatch(key)
    if match is None:
        return None
    target, layer = targets[int(match[1])], match[4]
    if match[3] == "heads":
        return f"{match[2]}_heads.{target}.{layer}.{match[5]}"
    return f"{match[2]}_last_layers.{target}.{layer}.{target}___0.{match[5]}"


def named_parameters(model: Potential) -> dict[str, torch.nn.Parameter]:
    """Trainable parameters of ours under their upstream names."""
    named = {}
    for key, parameter in model.named_parameters():
        name = upstream_name(key, model.target_names)
        if name is not None:
            named[name] = parameter
    return named


def set_seeded_weights(model: Potential, variant: str) -> str:
    """Give a model the weights of a variant, in place, and return their fingerprint."""
    weights: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for name, parameter in named_parameters(model).items():
            weights[name] = seeded_weight(variant, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(weights[name]))
    return fingerprint(weights)

"""Low-rank updates of linear layers (Hu et al., arXiv:2106.09685).

A layer's weight W is computed as W + (alpha / rank) B A; W stays as it is, A and B are
trained. As a parametrization of the weight, the update is invisible to the layer and to
whatever differentiates it, and can be merged at any time.
"""

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from petmad.model import Potential

from .finetune_options import FinetuneOptions


class LowRank(nn.Module):
    """W → W + (alpha / rank) B A.

    Args:
        weight: [n_out, n_in] to be updated, for shape, dtype and device.
        options: rank, alpha and start.
    """

    def __init__(self, weight: torch.Tensor, options: FinetuneOptions) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        rank = options.rank
        self.factor = options.alpha / rank
        self.down = nn.Parameter(weight.new_empty(rank, n_in))
        self.up = nn.Parameter(weight.new_zeros(n_out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        if options.lora_init == "random":
            nn.init.kaiming_uniform_(self.up, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """[n_out, n_in] in and out."""
        return weight + self.factor * (self.up @ self.down)


def add_low_rank(potential: Potential, options: FinetuneOptions) -> int:
    """Put updates on the layers of the network that the options name, in place.

    Returns:
        The number of updated layers.

    Raises:
        ValueError: there is no such layer.
    """
    linear = {
        name: layer
        for name, layer in potential.network.named_modules()
        if isinstance(layer, nn.Linear)
    }
    chosen = [
        layer
        for name, layer in linear.items()
        if name.rpartition(".")[2] in options.lora_layers
    ]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear} - {"0", "2"})
        raise ValueError(
            f"`finetune.lora_layers` {options.lora_layers} name no linear layer; "
            f"choose among {known}"
        )
    for layer in chosen:
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(
            layer, "weight", LowRank(layer.weight, options)
        )
    return len(chosen)


def merged_state(potential: Potential) -> dict[str, torch.Tensor]:
    """The state of the model without updates: each added to the weight it updates."""
    state = dict(potential.state_dict())
    for name, layer in potential.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            part = f"{name}.parametrizations.weight."
            state = {k: v for k, v in state.items() if not k.startswith(part)}
            state[f"{name}.weight"] = layer.weight
    return state

"""The optimizers: Adam, and Muon for the matrices with Adam for the rest.

Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) orthogonalizes the
momentum of every matrix, so that all its directions are learned at one pace. Updates
are scaled to the size of Adam's (Liu et al., arXiv:2502.16982): one learning rate
serves both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from petmad.model import Potential

from .options import TrainingOptions


LEAST_WIDTH = 8
"""Matrices narrower than this, as that of the edge vectors, are left to Adam."""


def make_optimizer(
    potential: Potential, options: TrainingOptions
) -> torch.optim.Optimizer:
    """The optimizer of the parameters that are trained."""
    parameters = [p for p in potential.parameters() if p.requires_grad]
    if options.optimizer == "adam":
        return adam(parameters, options)
    chosen = {id(p) for p in matrices(potential)}
    wide = [p for p in parameters if id(p) in chosen]
    rest = [p for p in parameters if id(p) not in chosen]
    if not wide:
        return adam(parameters, options)
    muon = torch.optim.Muon(
        wide,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return JoinedOptimizers([muon, adam(rest, options)] if rest else [muon])


def adam(
    parameters: Sequence[nn.Parameter], options: TrainingOptions
) -> torch.optim.Optimizer:
    """Adam, or AdamW with weight decay."""
    rate, decay = options.learning_rate, options.weight_decay
    if decay > 0:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.Adam(parameters, lr=rate)


def matrices(potential: Potential) -> list[nn.Parameter]:
    """Weights of the hidden linear layers that are trained.

    Not of embeddings, of last layers (``node_last``, ``edge_last``, ``last``), whose
    rows are predictions of their own, nor low-rank updates.
    """
    found = []
    for name, module in potential.named_modules():
        if not isinstance(module, nn.Linear) or name.split(".")[-1] == "last":
            continue
        is_last = any(part in ("node_last", "edge_last") for part in name.split("."))
        weight = module._parameters.get("weight")  # None where it is parametrized
        if weight is None or is_last or not weight.requires_grad:
            continue
        if min(weight.shape) >= LEAST_WIDTH:
            found.append(weight)
    return found


class JoinedOptimizers(torch.optim.Optimizer):
    """Several optimizers of different parameters as one, with all their groups.

    Args:
        parts: the optimizers.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__(
            [p for part in parts for g in part.param_groups for p in g["params"]], {}
        )
        self._share_groups()

    def _share_groups(self) -> None:
        """Show the parts' own groups, so that a rate set here is set there."""
        self.param_groups = [g for part in self.parts for g in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each; the closure is evaluated once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

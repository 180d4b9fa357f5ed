"""What a checkpoint predicts: names, kinds, blocks, scales and compositions."""

import re
from typing import Any, NamedTuple

import numpy as np
import torch

from petmad.model import TargetSpec

from .tensormap import Block, only_block


HEAD = re.compile(r"(node|edge)_(heads|last_layers)\.(.+)")
BLOCK = re.compile(r"(\d+)\.(.+)\.(weight|bias)")
RENAMED = {"non_conservative_forces": "non_conservative_force"}
"""Old names of targets; models up to 1.5 carry the plural."""


class Head(NamedTuple):
    """Where one weight of a target's readout belongs."""

    target: str
    part: str
    """``node`` or ``edge``"""
    is_last: bool
    rest: str
    """what follows the target in the name"""


def find_head(key: str, targets: list[str]) -> Head | None:
    """Which target's readout a weight belongs to, or None.

    Targets may contain ``/``, ``::`` and dots, and one may begin like another, so the
    longest that fits is taken.
    """
    found = HEAD.fullmatch(key)
    if found is None:
        return None
    fitting = [name for name in targets if found[3].startswith(f"{name}.")]
    if not fitting:
        return None
    target = max(fitting, key=len)
    rest = found[3].removeprefix(f"{target}.")
    return Head(target, found[1], found[2] == "last_layers", rest)


def _blocks(
    state: dict[str, torch.Tensor], target: str, targets: list[str]
) -> dict[str, int]:
    """Blocks of a target's last layers, and the numbers per atom that each predicts."""
    rows = {}
    for key, value in state.items():
        head = find_head(key.removeprefix("backend."), targets)
        if head is not None and head.target == target and head.is_last:
            found = BLOCK.fullmatch(head.rest)
            if found is not None and found[3] == "bias":
                rows[found[2]] = value.shape[0]
    return rows


def has_one_block(
    state: dict[str, torch.Tensor], target: str, targets: list[str]
) -> bool:
    """Whether a target is scalar or Cartesian, as all that petmad reads."""
    return len(_blocks(state, target, targets)) == 1


def n_rows(state: dict[str, torch.Tensor], target: str, targets: list[str]) -> int:
    """Numbers per atom that a target's last layers predict.

    Raises:
        ValueError: it has several blocks (spherical or of an atomic basis), or none.
    """
    rows = _blocks(state, target, targets)
    if len(rows) != 1:
        raise ValueError(
            f"target {target!r} has {len(rows)} blocks of last layers "
            f"({', '.join(sorted(rows)) or 'none'}); petmad reads scalar and "
            "Cartesian targets, which have one: choose another with `--target`"
        )
    return next(iter(rows.values()))


def make_spec(name: str, info: dict[str, Any], n_components: int) -> TargetSpec:
    """Our description of a target of upstream, under its present name."""
    name = RENAMED.get(name, name)
    kind = "generic"
    if is_energy(name, info) and n_components == 1:
        kind = "energy"
    elif name == "non_conservative_force" and n_components == 3:
        kind = "force"
    elif name == "non_conservative_stress" and n_components == 9:
        kind = "stress"
    return TargetSpec(name, kind, n_components, _per_atom(info), info.get("unit") or "")


def is_energy(name: str, info: dict[str, Any]) -> bool:
    """Whether a target is an energy of the whole structure."""
    named = name == "energy" or name.startswith("energy/")
    return (named or info.get("quantity") == "energy") and not _per_atom(info)


def _per_atom(info: dict[str, Any]) -> bool:
    layout = info.get("layout")
    if layout is None:
        return False
    return "atom" in only_block(layout.state[0], "a target").sample_names


def read_scales(
    state: dict[str, torch.Tensor], name: str, n_species: int, n_components: int
) -> torch.Tensor:
    """Factors of a target's predictions, [n_species, n_components] float64.

    Raises:
        ValueError: the file has none for this target, or of another shape.
    """
    key = f"scaler.{name}_scaler_buffer"
    if key not in state:
        raise ValueError(
            f"this checkpoint has no scale of target {name!r} ({key} is missing); it "
            "is damaged, download it again"
        )
    if state[key].dtype == torch.uint8:
        block = only_block(state[key], key)
        order = block.samples[:, 0] if len(block.samples) > 1 else None
        values = block.values.reshape(len(block.samples), -1)
        values = values if order is None else _ordered(values, order, range(n_species))
    else:
        values = state[key].numpy()
    repeats = n_components // values.shape[1]
    return torch.from_numpy(np.tile(values, (1, repeats)).astype(np.float64)).expand(
        n_species, n_components
    )


def read_compositions(
    state: dict[str, torch.Tensor],
    name: str,
    atomic_numbers: list[int],
    n_components: int,
) -> torch.Tensor:
    """Energies of the species, [n_species, n_components] float64; 0 where none."""
    key = f"additive_models.0.{name}_composition_buffer"
    if key not in state:
        return torch.zeros(len(atomic_numbers), n_components, dtype=torch.float64)
    block: Block = only_block(state[key], key)
    values = block.values.reshape(len(block.samples), -1)
    values = _ordered(values, block.samples[:, 0], atomic_numbers)
    return torch.from_numpy(values.astype(np.float64))


def _ordered(values: np.ndarray, labels: np.ndarray, wanted: Any) -> np.ndarray:
    """Rows of ``values`` in the order of the wanted labels."""
    rows = {int(label): row for label, row in zip(labels, values, strict=True)}
    missing = [label for label in wanted if label not in rows]
    if missing:
        raise ValueError(
            f"this checkpoint has numbers of {sorted(rows)}, but none of {missing}; it "
            "is damaged, download it again"
        )
    return np.stack([rows[label] for label in wanted])

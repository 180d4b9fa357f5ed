"""What a model's labels are called and measured in: as typed, or as in its training."""

import argparse
import dataclasses
import logging
from typing import Any

from petmad.data.structures import LabelKeys

from .loss import ENERGY


LOG = logging.getLogger(__name__)
KINDS = ("energy", "forces", "stress", "virial")


def trained_keys(provenance: dict[str, Any], target: str = ENERGY) -> LabelKeys | None:
    """Of an energy's labels in the training of a model; None where it does not tell."""
    data = provenance.get("options", {}).get("data", {})
    level = target.removeprefix(ENERGY).removeprefix("/")
    section = data.get("levels", {}).get(level, {}) if level else data
    if section.get("energy_key") is None:
        return None
    names = {kind: section[f"{kind}_key"] for kind in KINDS if f"{kind}_key" in section}
    units = [f"{kind}_unit" for kind in KINDS if f"{kind}_unit" in section]
    return LabelKeys(**names, **{unit: section[unit] for unit in units})


def keys_for(
    arguments: argparse.Namespace, provenance: dict[str, Any], **other: Any
) -> LabelKeys:
    """Names and units of the command line; of what it leaves out, the training's.

    Args:
        arguments: with ``target``, and ``energy_key``, ``energy_unit`` and the like.
        provenance: of the model.
        other: further fields.

    Raises:
        ValueError: neither tells what a further energy is called, or a unit is wrong.
    """
    typed = {kind: getattr(arguments, f"{kind}_key", None) for kind in KINDS}
    typed |= {
        f"{kind}_unit": getattr(arguments, f"{kind}_unit", None) for kind in KINDS
    }
    typed = {name: value for name, value in typed.items() if value is not None}
    known = trained_keys(provenance, arguments.target)
    if known is None and arguments.target != ENERGY and "energy" not in typed:
        raise ValueError(
            f"the model does not tell what the label of {arguments.target!r} is "
            "called; name it with `--energy-key`"
        )
    keys = dataclasses.replace(known or LabelKeys(), **typed, **other)
    if (keys.energy, keys.energy_unit) != ("energy", "eV"):
        LOG.info("energies: `%s` in %s", keys.energy, keys.energy_unit)
    return keys

"""What labels are called and measured in, and whether the files have what is named."""

import argparse
import dataclasses
import logging
from typing import Any

from petmad.data.reading import find_labels
from petmad.data.structures import LabelKeys, check_unit

from .data_options import DataOptions, LabelOptions
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

    A virial that is named alone is read, whatever stresses the frames have.

    Args:
        arguments: with ``target``, and ``energy_key``, ``energy_unit`` and the like.
        provenance: of the model.
        other: further fields.

    Raises:
        ValueError: neither tells what a further energy is called, a unit is wrong, or
            one is given for what is not read.
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
    if "virial" in typed:
        other = {"stress": None, **other}
    keys = dataclasses.replace(known or LabelKeys(), section="", **{**other, **typed})
    for kind in KINDS:
        check_unit(kind, getattr(keys, kind), typed.get(f"{kind}_unit"))
    return keys


def tell(keys: LabelKeys) -> None:
    """Log the labels whose name or unit is not the usual one."""
    usual, parts = LabelKeys(), []
    for kind in KINDS:
        name, unit = getattr(keys, kind), getattr(keys, f"{kind}_unit")
        plain = (getattr(usual, kind), getattr(usual, f"{kind}_unit"))
        if name and (name, unit) != plain:
            parts.append(f"{kind} `{name}` in {unit}")
    if parts:
        LOG.info("labels: %s", ", ".join(parts))


def check_names(data: DataOptions) -> None:
    """Refuse names of labels, other than the usual ones, that no training frame has.

    A missing label of the usual name is no mistake, but one of a chosen name is.

    Raises:
        ValueError: names the option and what the files have.
    """
    for section, level in data.sections.items():
        if level.energy_key is None:
            continue
        options = [f"{kind}_key" for kind in KINDS if kind != "energy"]
        usual = {name: LabelOptions.model_fields[name].default for name in options}
        chosen = {name: getattr(level, name) for name in options}
        chosen = {n: key for n, key in chosen.items() if key not in (None, usual[n])}
        files, found = level.train or data.train, set()
        for file in [files] if isinstance(files, str) else files:
            if not set(chosen.values()) <= found:
                found |= find_labels(file, set(chosen.values()) - found)
        for name, key in chosen.items():
            if key not in found:
                raise ValueError(
                    f"no training frame has `{key}`, named by `{section}.{name}`; they "
                    f"have {sorted(found - {'numbers', 'positions'})}; name the right "
                    "one, or leave the option out"
                )

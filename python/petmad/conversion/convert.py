"""From an upstream checkpoint to a model of ours, with a report of what was found."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petmad.model import PETConfig, Potential

from . import llpr
from .build import build, network_dtype
from .lora import merge_lora
from .report import Report, describe_kind
from .targets import RENAMED, has_one_block, is_energy
from .unpickle import DatasetInfo, load
from .upgrades import upgrade


REQUIRED = (
    "cutoff",
    "cutoff_width",
    "d_pet",
    "d_head",
    "d_node",
    "d_feedforward",
    "num_heads",
    "num_attention_layers",
    "num_gnn_layers",
)
"""Hyperparameters that a file must tell itself; the rest the upgrades fill in."""


def convert(
    path: str | Path, target: str | None = None, keep: Sequence[str] | None = None
) -> tuple[Potential, Report]:
    """Read an upstream checkpoint of any version.

    Args:
        path: ``.ckpt`` file of metatrain: PET, or PET wrapped for uncertainty (LLPR).
        target: the energy that becomes the target ``energy``, e.g. ``energy/pbe0``;
            default: ``energy``, or the only one there is.
        keep: further targets to keep, under their own names; default: all that petmad
            evaluates.

    Returns:
        The model in the dtype of the file, with scales and compositions in float64, and
        what was found.

    Raises:
        ValueError: the file is not such a checkpoint, holds something that petmad does
            not evaluate, or has no such target.
    """
    checkpoint, wrapper = _unwrap(load(path), path)
    notes = []
    version = upgrade(checkpoint)
    data = checkpoint["model_data"]
    config, unknown = _read_config(data["model_hypers"])
    if unknown:
        notes.append(f"hyperparameters unknown to PET, ignored: {', '.join(unknown)}")
    info = _dataset_info(data)
    targets = {name: entry.state for name, entry in info["targets"].items()}
    energy = _choose_energy(target, targets)
    state = dict(_best_state(checkpoint))
    finetune = state.pop("finetune_config", None)
    if keep is None:
        keep, left_out = _all_others(energy, targets, state)
        notes += left_out
    sources = _sources(energy, keep, targets)

    state, n_merged = merge_lora(state, finetune)
    if n_merged:
        notes.append(f"low-rank updates of {n_merged} matrices were merged into them")
    potential = build(
        config, sorted(info["_atomic_types"]), targets, sources, state, wrapper
    )
    report = Report(
        version=version,
        kind=describe_kind(config),
        atomic_numbers=potential.atomic_numbers,
        hypers=config.to_dict(),
        dtype=str(network_dtype(state)).removeprefix("torch."),
        n_parameters=sum(p.numel() for p in potential.network.parameters())
        + sum(p.numel() for p in potential.readouts.parameters()),
        found=list(targets),
        sources=sources,
        kept=potential.target_names,
        uncertainty=_describe_uncertainty(potential, wrapper),
        notes=notes,
        upstream_metadata=_metadata(checkpoint),
    )
    return potential, report


def _unwrap(
    checkpoint: dict[str, Any], path: str | Path
) -> tuple[dict[str, Any], llpr.Wrapper | None]:
    """The PET checkpoint itself, and the uncertainties around it."""
    wrapper = None
    name = checkpoint.get("architecture_name")
    if name == "llpr":
        wrapper = llpr.open_wrapper(checkpoint, path)
        checkpoint = checkpoint["wrapped_model_checkpoint"]
        name = checkpoint.get("architecture_name")
    if name != "pet":
        raise ValueError(
            f"{path} holds the architecture {name!r}; petmad converts 'pet' and 'llpr' "
            "checkpoints of metatrain"
            + (" (its own are exported by `petmad export`)" if not name else "")
        )
    missing = sorted({"model_data", "model_state_dict"} - set(checkpoint))
    if missing:
        raise ValueError(
            f"{path} has no {' and no '.join(missing)}; take the file as its training "
            "wrote it"
        )
    return checkpoint, wrapper


def _describe_uncertainty(potential: Potential, wrapper: llpr.Wrapper | None) -> str:
    if wrapper is None:
        return "none"
    sizes = [f"{s.name} ({s.n_members} members)" for s in potential.targets]
    covered = [
        size
        for size, spec in zip(sizes, potential.targets, strict=True)
        if spec.has_uncertainty
    ]
    return (
        f"LLPR version {wrapper.version}: {', '.join(covered) or 'of no kept target'}"
    )


def _read_config(hypers: dict[str, Any]) -> tuple[PETConfig, list[str]]:
    """Hyperparameters of the file, and the names that are none of PET's."""
    missing = [name for name in REQUIRED if name not in hypers]
    if missing:
        raise ValueError(
            f"this checkpoint does not tell {', '.join(missing)}; it is damaged, "
            "download it again"
        )
    long_range = hypers.get("long_range") or {}
    if long_range.get("enable", False):
        raise ValueError(
            "this model adds long-range electrostatics (`long_range.enable: true`), "
            "whose sums over all charges petmad does not evaluate; it would give other "
            "energies without them. Run it in metatrain, or train without long range"
        )
    known = {field.name for field in dataclasses.fields(PETConfig)}
    config = PETConfig(**{k: v for k, v in hypers.items() if k in known})
    return config, sorted(set(hypers) - known)


def _dataset_info(data: dict[str, Any]) -> dict[str, Any]:
    info = data["dataset_info"]
    if not isinstance(info, DatasetInfo):
        raise ValueError(
            f"`dataset_info` of this checkpoint is a {type(info).__name__}, not "
            "metatrain's DatasetInfo; take the file from its official source"
        )
    unit = info.state.get("length_unit") or "angstrom"
    if unit.lower() not in ("angstrom", "a", "å"):
        raise ValueError(
            f"this model measures lengths in {unit!r}; petmad reads models in angstrom"
        )
    return info.state


def _choose_energy(wanted: str | None, targets: dict[str, dict[str, Any]]) -> str:
    """Name in the file of the energy to run."""
    energies = [name for name, info in targets.items() if is_energy(name, info)]
    if wanted is None and "energy" in energies:
        wanted = "energy"
    if wanted is None and len(energies) == 1:
        wanted = energies[0]
    if wanted not in energies:
        raise ValueError(
            f"choose the energy with `--target`: got {wanted!r}, the file has "
            f"{', '.join(energies) or 'none'} (all targets: {', '.join(targets)})"
        )
    unit = targets[wanted].get("unit") or "eV"
    if unit.lower() != "ev":
        raise ValueError(
            f"target {wanted!r} is in {unit!r}; petmad reads energies in eV"
        )
    return wanted


def _all_others(
    energy: str, targets: dict[str, Any], state: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Targets beside the energy that can be kept, and notes about the others."""
    kept, notes = [], []
    for name in targets:
        if name == energy:
            continue
        if name == "energy":
            notes.append(f"`energy` is left out, since {energy} takes its name")
        elif not has_one_block(state, name, list(targets)):
            notes.append(f"`{name}` is left out: it is neither scalar nor Cartesian")
        else:
            kept.append(name)
    return kept, notes


def _sources(energy: str, keep: Sequence[str], targets: dict[str, Any]) -> list[str]:
    """The file's names of the targets of the new model, its energy first."""
    originals = {RENAMED.get(name, name): name for name in targets}
    sources = [energy]
    for name in keep:
        source = name if name in targets else originals.get(name)
        if source is None or (source == "energy" and energy != "energy"):
            raise ValueError(
                f"cannot keep {name!r} beside the energy {energy!r}; the file has "
                f"{', '.join(targets)}, and the chosen energy takes the name 'energy'"
            )
        if source not in sources:
            sources.append(source)
    return sources


def _best_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    state = checkpoint.get("best_model_state_dict") or checkpoint["model_state_dict"]
    if not state:
        raise ValueError(
            "this checkpoint has no weights (`best_model_state_dict` and "
            "`model_state_dict` are empty); take the file as its training wrote it"
        )
    return state


def _metadata(checkpoint: dict[str, Any]) -> str:
    """Upstream's metadata as its JSON text, empty where there is none."""
    state = getattr(checkpoint.get("metadata"), "state", None)
    return state[0] if isinstance(state, tuple) and isinstance(state[0], str) else ""

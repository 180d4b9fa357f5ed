"""``petmad finetune``: train on from a model, and tell what was gained and lost.

The report holds errors before and after on the validation structures and on a base set,
whose rise is what the model forgot.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from petmad.data import Structure, read_structures
from petmad.data.structures import LabelKeys
from petmad.output_files import replaced

from . import checkpoint
from .device import choose_device
from .evaluation import evaluate_structures, potential_predictor
from .loss import ENERGY
from .metrics import UNITS
from .options import Options
from .ranks import is_first
from .splits import as_list, load_structures
from .start import load_start
from .trained import (
    count_parameters,
    select_parameters,
    trained_energies,
    trains_energy,
)
from .trainer import train


LOG = logging.getLogger(__name__)


def finetune(options: Options, resume: str | Path | None = None) -> Path:
    """Train from a model, and write ``finetune.json`` beside the checkpoints.

    Args:
        options: with ``training.start_from``.
        resume: ``last.ckpt`` of an interrupted fine-tuning with the same options.

    Returns:
        Path of the best checkpoint.

    Raises:
        ValueError: options or data are wrong; raised before training starts.
    """
    path = options.training.start_from
    if path is None:
        raise ValueError(
            "nothing to start from: give `training.start_from` a checkpoint or model "
            "file, or train anew with `petmad train`"
        )
    if not trains_energy(options):
        raise ValueError(
            "`petmad finetune` reports errors of energies, but `data.energy_key` is "
            "null; train other targets alone with `petmad train`, and judge them with "
            "`petmad evaluate`"
        )
    keys = options.data.label_keys()
    if not is_first(options.training):
        return train(options, resume)
    base = read_all(options.finetune.base, keys)  # before training: it may be wrong
    best = train(options, resume)
    name = options.training.device
    device = choose_device("cuda" if name == "gpu" else name)
    report = {
        "start_from": path,
        "parameters": options.training.parameters,
        **parameter_counts(options),
        "validation": {
            name: compare(path, best, name, structures, device)
            for name, structures in validation_sets(options).items()
        },
    }
    if base:
        report["base"] = compare(path, best, ENERGY, base, device)
    file = Path(options.output) / "finetune.json"
    with replaced(file) as whole:
        whole.write_text(json.dumps(report, indent=1) + "\n")
    LOG.info("%s\nwritten to %s", format_report(report), file)
    return best


def read_all(files: str | list[str] | None, keys: LabelKeys) -> list[Structure]:
    """Structures of several files."""
    return [s for f in as_list(files) for s in read_structures(f, keys, False)]


def parameter_counts(options: Options) -> dict[str, int]:
    """Of the model in training: ``n_trained`` and ``n_parameters``, updates included.

    Numbers of the model to start from count; updates are merged into it afterwards.
    """
    start = load_start(options)
    select_parameters(start.potential, options, start.new_targets)
    n_trained, n_parameters = count_parameters(start.potential)
    return {"n_trained": n_trained, "n_parameters": n_parameters}


def validation_sets(options: Options) -> dict[str, list[Structure]]:
    """Validation structures by the energy they belong to."""
    _, valid = load_structures(options)
    sets: dict[str, list[Structure]] = {}
    for structure in valid:
        name = trained_energies(options)[structure.level]
        sets.setdefault(name, []).append(structure)
    return sets


def compare(
    before: str | Path,
    after: str | Path,
    name: str,
    structures: Sequence[Structure],
    device: torch.device,
) -> dict[str, Any]:
    """Errors of an energy before and after, evaluated on a device.

    Before is None where the model did not know the energy, or an element.
    """
    origin, _ = checkpoint.load_any(before)
    numbers = {int(z) for s in structures for z in s.atomic_numbers}
    is_known = name in origin.target_names and numbers <= set(origin.atomic_numbers)
    result, _ = checkpoint.load_potential(after)
    return {
        "n_structures": len(structures),
        "before": _errors(origin.to(device), name, structures) if is_known else None,
        "after": _errors(result.to(device), name, structures),
    }


def _errors(potential: Any, name: str, structures: Sequence[Structure]) -> dict:
    return evaluate_structures(potential_predictor(potential, name), structures)


def format_report(report: dict[str, Any]) -> str:
    """The report as a table of mean absolute errors."""
    share = 100 * report["n_trained"] / report["n_parameters"]
    lines = [
        f"trained {report['n_trained']} of {report['n_parameters']} parameters "
        f"({share:.3g} %)",
        f"{'MAE':24} {'before':>10} {'after':>10}",
    ]
    parts = {f"{name}, validation": part for name, part in report["validation"].items()}
    if "base" in report:
        parts["energy, base set"] = report["base"]
    for title, part in parts.items():
        for label, unit in UNITS.items():
            after = part["after"].get(f"{label}_mae")
            if after is None:
                continue
            before = (part["before"] or {}).get(f"{label}_mae")
            shown = f"{'-':>10}" if before is None else f"{before:10.3f}"
            lines.append(f"{title + ': ' + label:24} {shown} {after:10.3f}  {unit}")
    return "\n".join(lines)

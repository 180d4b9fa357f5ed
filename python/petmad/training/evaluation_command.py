"""``petmad evaluate``: energies and tensors compared, told, and written."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from petmad.data.reading import find_labels
from petmad.model import Potential
from petmad.output_files import check_output

from . import checkpoint
from .device import choose_device
from .evaluation import format_errors, load_predictor
from .label_names import keys_for, tell
from .report import Evaluation, evaluate_with, format_breakdown, write_json
from .tensor_evaluation import (
    evaluate_tensors,
    format_tensor_errors,
    label_keys,
    make_targets,
)


NAMES = ("energy_key", "forces_key", "stress_key", "virial_key", "subset_key")
UNITS = ("energy_unit", "forces_unit", "stress_unit", "virial_unit")
OF_ENERGIES = ("predictions", "report", "lebedev", "average", *NAMES, *UNITS)
"""Options that mean something only where energies are compared."""


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Compare what model and file have in common, and yield lines to print.

    Raises:
        ValueError: model, file or labels are wrong, or an option has no effect.
    """
    for path in (arguments.errors, arguments.predictions, arguments.report):
        if path is not None:
            check_output(path)
    predictor = load_predictor(arguments.model, arguments.target, arguments.device)
    potential, provenance = _load(arguments.model)
    tensors = tensor_keys(arguments, potential, provenance)
    keys = keys_for(arguments, provenance, group=arguments.subset_key)
    wanted = {**({"energy": keys.energy} if predictor.has_energy else {}), **tensors}
    found = find_labels(arguments.file, {*wanted.values(), *_typed(arguments).values()})
    check_labels(arguments, wanted, found)
    for name, key in wanted.items():
        if key not in found:
            yield f"{name}: not compared, no frame has `{key}`; see `{_option(name)}`"
    tensors = {name: key for name, key in tensors.items() if key in found}
    errors: dict[str, Any] = {}
    if tensors:
        potential.to(choose_device(arguments.device))
        errors["tensors"] = evaluate_tensors(
            potential, arguments.file, tensors, arguments.rotations, list(tensors)
        )
        yield format_tensor_errors(potential, errors["tensors"])
    if wanted.get("energy") in found:
        tell(keys)
        result = evaluate_with(
            predictor,
            arguments.model,
            arguments.file,
            keys,
            arguments.lebedev,
            arguments.average,
        )
        result.errors.update(errors)
        yield format_errors(result.errors["overall"])
        yield format_breakdown(result.errors)
        yield from _write(arguments, result)
    elif arguments.errors is not None:
        write_json(arguments.errors, errors)
        yield f"wrote {arguments.errors}"


def _load(path: str) -> tuple[Potential | None, dict[str, Any]]:
    """The model in plain torch, which a file of AOTInductor does not hold."""
    if Path(path).suffix == ".pt2":
        return None, {}
    return checkpoint.load_any(path)


def tensor_keys(
    arguments: argparse.Namespace,
    potential: Potential | None,
    provenance: dict[str, Any],
) -> dict[str, str]:
    """Names of the labels of a model's tensors: typed, of the training, or their own.

    Raises:
        ValueError: a name is typed for what is no tensor of the model.
    """
    targets = [] if potential is None else make_targets(potential)
    names = [spec.name for spec, _ in targets]
    typed, known = dict(arguments.target_key), label_keys(provenance)
    unknown = sorted(set(typed) - set(names))
    if unknown:
        raise ValueError(
            f"`--target-key` names {unknown[0]!r}, which is no tensor of "
            f"{arguments.model}; it has {names}"
        )
    return {name: typed.get(name, known.get(name, name)) for name in names}


def _typed(arguments: argparse.Namespace) -> dict[str, str]:
    """Labels that the command line names, by option."""
    typed = {_spelled(name): getattr(arguments, name) for name in NAMES}
    typed |= {f"--target-key {name}": key for name, key in arguments.target_key}
    return {option: key for option, key in typed.items() if key is not None}


def check_labels(
    arguments: argparse.Namespace, wanted: dict[str, str], found: set[str]
) -> None:
    """Refuse names that no frame has, and options that would have no effect.

    Args:
        arguments: of the command line.
        wanted: labels that the model may be compared with, by target.
        found: labels of the file.

    Raises:
        ValueError: names the first, and what the file has.
    """
    file, known = arguments.file, sorted(found - {"numbers", "positions"})
    for option, key in _typed(arguments).items():
        if key not in found:
            raise ValueError(
                f"no frame of {file} has `{key}`, named by `{option}`; it has {known}; "
                "name the right one, or leave the option out"
            )
    if not found & set(wanted.values()):
        labels = ", ".join(f"`{key}` ({name})" for name, key in wanted.items())
        options = " or ".join(f"`{_option(name)}`" for name in wanted)
        raise ValueError(
            f"no frame of {file} has {labels} to compare with; it has {known}; name "
            f"the right one with {options}"
        )
    if wanted.get("energy") in found:
        return
    lacks = f"{file} has no energies" if "energy" in wanted else "the model has none"
    for name in OF_ENERGIES:
        if getattr(arguments, name):
            raise ValueError(
                f"`{_spelled(name)}` is about energies and forces, but {lacks}; leave "
                "it out"
            )


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(target: str) -> str:
    """What tells the name of a target's label."""
    return "--energy-key" if target == "energy" else f"--target-key {target}=KEY"


def _write(arguments: argparse.Namespace, result: Evaluation) -> Iterator[str]:
    """Files that were asked for."""
    for path, write in (
        (arguments.errors, result.write_errors),
        (arguments.predictions, result.write_predictions),
        (arguments.report, result.write_report),
    ):
        if path is not None:
            write(path)
            yield f"wrote {path}"

"""``petmad evaluate``: energies and tensors compared, told, and written."""

import argparse
import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from petmad.data import Structure
from petmad.model import Potential
from petmad.output_files import check_output

from . import checkpoint
from .device import choose_device
from .evaluation import Prediction, Predictor, format_errors, load_predictor
from .label_names import keys_for, tell
from .labelled import labels_in, read_labelled
from .report import Evaluation, evaluate_with, format_breakdown, with_tensors
from .tensor_evaluation import (
    format_tensor_errors,
    label_keys,
    make_targets,
    tensor_errors,
    tensor_labels,
)
from .tensors import TensorTarget


NAMES = ("energy_key", "forces_key", "stress_key", "virial_key", "subset_key")
UNITS = ("energy_unit", "forces_unit", "stress_unit", "virial_unit")
OF_ENERGIES = ("lebedev", "average", *NAMES, *UNITS)
"""Options that mean something only where energies are compared."""


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Compare what model and file have in common, and yield lines to print.

    Raises:
        ValueError: model, file or labels are wrong, or an option has no effect.
    """
    files = [arguments.model, *arguments.files]
    for path in (arguments.errors, arguments.predictions, arguments.report):
        if path is not None:
            check_output(path, *files)
            files.append(path)
    predictor = load_predictor(arguments.model, arguments.target, arguments.device)
    potential, provenance = _load(arguments.model)
    tensors = tensor_keys(arguments, potential, provenance)
    keys = keys_for(arguments, provenance, group=arguments.subset_key)
    wanted = {**({"energy": keys.energy} if predictor.has_energy else {}), **tensors}
    asked = {*wanted.values(), *_typed(arguments).values()}
    found = labels_in(arguments.files, asked)
    check_labels(arguments, wanted, found)
    for name, key in wanted.items():
        if key not in found:
            yield f"{name}: not compared, no frame has `{key}`; see `{_option(name)}`"
    targets = [] if potential is None else make_targets(potential)
    targets = [target for target in targets if tensors[target.spec.name] in found]
    has_energies = wanted.get("energy") in found
    keys = dataclasses.replace(
        keys,
        energy=keys.energy if has_energies else None,
        tensors=tensor_labels(targets, tensors),
    )
    labelled = read_labelled(arguments.files, keys)
    yield from labelled.left_out(keys)
    if has_energies:
        tell(keys)
        yield from _other_energies(arguments, potential)
    result = yield from _compare(
        arguments,
        predictor if has_energies else None,
        potential,
        targets,
        labelled.structures,
    )
    if labelled.n_without:
        result.errors["without"] = labelled.n_without
    yield from _write(arguments, result)


def _compare(
    arguments: argparse.Namespace,
    predictor: Predictor | None,
    potential: Potential | None,
    targets: Sequence[TensorTarget],
    structures: list[Structure],
) -> Generator[str, None, Evaluation]:
    """Errors of tensors, and of energies where there is a predictor, as tables."""
    if targets:
        potential.to(choose_device(arguments.device))
        compared = tensor_errors(potential, structures, targets, arguments.rotations)
        yield format_tensor_errors(potential, compared.errors)
    if predictor is None:
        nothing = [Prediction() for _ in structures]
        result = Evaluation(arguments.model, structures, nothing, {})
    else:
        orders = (arguments.lebedev, arguments.average)
        result = evaluate_with(predictor, arguments.model, structures, *orders)
        yield format_errors(result.errors["overall"])
    if targets:
        result = with_tensors(result, [target.spec for target in targets], compared)
    if breakdown := format_breakdown(result.errors):
        yield breakdown
    return result


def _other_energies(
    arguments: argparse.Namespace, potential: Potential | None
) -> Iterator[str]:
    """A line where a model has more energies than the one that is compared."""
    specs = [] if potential is None else potential.targets
    energies = [spec.name for spec in specs if spec.kind == "energy"]
    others = [name for name in energies if name != arguments.target]
    if others:
        where = "" if Path(arguments.model).suffix == ".ckpt" else " of the checkpoint"
        yield (
            f"{arguments.target}: compared alone; further energies, each compared with "
            f"`--target NAME`{where}: {', '.join(others)}"
        )


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
    file = ", ".join(arguments.files)
    known = sorted(found - {"numbers", "positions"})
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

"""``petmad.evaluate()`` and ``petmad evaluate``: a model judged on a labelled file."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from petmad.data import Structure
from petmad.data.progress import progress
from petmad.data.structures import LabelKeys, check_species
from petmad.model import TargetSpec
from petmad.output_files import replaced
from petmad.rotations import rotation_grid

from .breakdown import break_down, uncertainty_quality
from .checkpoint import load_any
from .evaluation import ALL_UNITS, Prediction, Predictor, load_predictor
from .label_names import tell, trained_keys
from .labelled import as_files, read_labelled
from .loss import ENERGY
from .orientations import averaged, rotational_errors
from .predictions import predicted_frames
from .tensor_evaluation import TensorEvaluation


LOG = logging.getLogger(__name__)
N_TURNED = 10
"""Structures, evenly chosen, whose dependence on the orientation is measured."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's predictions for a file, and its errors.

    Attributes:
        model: path of the model.
        structures: with their labels.
        predictions: of each.
        errors: see :func:`petmad.training.breakdown.break_down`; also ``uncertainty``
            (``slope``, ``ratio``), ``rotations`` where they are known, ``averaged``
            (``order``, ``n_orientations``) of predictions that are means, and
            ``without``, numbers of frames that lack a label; of tensors ``tensors``,
            see :func:`petmad.training.tensor_evaluation.evaluate_tensors`.
        tensors: targets that were compared.
    """

    model: str
    structures: list[Structure]
    predictions: list[Prediction]
    errors: dict[str, Any]
    tensors: Sequence[TargetSpec] = ()

    def write_errors(self, path: str | Path) -> None:
        """As JSON."""
        write_json(path, self.errors)

    def write_predictions(self, path: str | Path) -> None:
        """As extended XYZ: predictions as results, labels as ``reference_energy`` ...

        Tensors are ``predicted_<name>`` and ``reference_<name>``, of structures [3] or
        [3, 3], of atoms with their entries row by row. The rest of each frame, and
        their order, are those of the files, which are read again; frames without any
        label are left out.
        """
        frames = predicted_frames(self.structures, self.predictions, self.tensors)
        with replaced(path) as whole:
            ase.io.write(whole, frames, format="extxyz")

    def write_report(self, path: str | Path) -> None:
        """As one HTML file with figures, which needs nothing else to be shown."""
        from .html_report import html_report

        with replaced(path) as whole:
            whole.write_text(html_report(self), encoding="utf-8")


def write_json(path: str | Path, errors: dict[str, Any]) -> None:
    """Errors as JSON, which has null where they have NaN."""
    text = json.dumps(_with_null(errors), indent=1, allow_nan=False)
    with replaced(path) as whole:
        whole.write_text(text + "\n")


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def evaluate(
    model: str | Path,
    file: str | Path | Sequence[str | Path],
    keys: LabelKeys | None = None,
    target: str = ENERGY,
    rotation_order: int = 0,
    average_order: int = 0,
    device: str = "auto",
) -> Evaluation:
    """Predict the structures of files and compare with their labels.

    Args:
        model: checkpoint (evaluated in plain torch) or exported file (in the engine).
        file: labelled structures, one file or several, whose errors are also told one
            by one; frames without energy are left out and counted, those without forces
            or stress count for the others.
        keys: names and units of the labels; ``keys.group`` names the subsets; by
            default those of the model's training, where it tells them.
        target: which energy of a checkpoint.
        rotation_order: of a grid of rotations (Lebedev), with inversion, over which ten
            structures are turned to measure how much predictions depend on the
            orientation; 0 leaves it out.
        average_order: of a grid of rotations, with inversion, over which predictions
            are averaged; 0 takes structures as they stand.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: model or labels are wrong, the model lacks an element, both orders
            are given, or no such device is here.
    """
    predictor = load_predictor(model, target, device)
    if not predictor.has_energy:
        raise ValueError(
            f"{model} has no energy; its tensors have their own evaluation"
        )
    if keys is None and Path(model).suffix != ".pt2":
        keys = trained_keys(load_any(model)[1], target)
        keys = None if keys is None else dataclasses.replace(keys, section="")
        tell(keys or LabelKeys())
    keys = keys or LabelKeys()
    labelled = read_labelled(as_files(file), keys)
    for line in labelled.left_out(keys):
        LOG.info(line)
    result = evaluate_with(
        predictor, model, labelled.structures, rotation_order, average_order
    )
    if labelled.n_without:
        result.errors["without"] = labelled.n_without
    return result


def evaluate_with(
    predictor: Predictor,
    model: str | Path,
    structures: list[Structure],
    rotation_order: int = 0,
    average_order: int = 0,
) -> Evaluation:
    """:func:`evaluate` with the predictor of a model, of structures that were read."""
    if rotation_order > 0 and average_order > 0:
        raise ValueError(
            "the spread over orientations is what their mean takes away; ask for one "
            f"of both, got rotation order {rotation_order} and average order "
            f"{average_order} (`--lebedev` and `--average`)"
        )
    if average_order > 0:
        predictor = averaged(predictor, average_order)
    check_species(structures, predictor.atomic_numbers)
    predictions = [predictor.predict(s) for s in progress(structures, "evaluating")]
    errors = break_down(structures, predictions)
    quality = uncertainty_quality(structures, predictions)
    if quality is not None:
        errors["uncertainty"] = {"slope": quality.slope, "ratio": quality.ratio}
    if average_order > 0:
        count = len(rotation_grid(average_order, inversion=True).rotations)
        errors["averaged"] = {"order": average_order, "n_orientations": count}
    if rotation_order > 0:
        step = max(1, len(structures) // N_TURNED)
        chosen = structures[::step][:N_TURNED]
        errors["rotations"] = rotational_errors(predictor, chosen, rotation_order)
    return Evaluation(str(model), structures, predictions, errors)


def with_tensors(
    evaluation: Evaluation, specs: Sequence[TargetSpec], found: TensorEvaluation
) -> Evaluation:
    """An evaluation of the same structures with that of tensors beside it."""
    pairs = zip(evaluation.predictions, found.predictions, strict=True)
    errors = {**evaluation.errors, "tensors": found.errors}
    if found.files:
        files = errors.get("files", {})
        errors["files"] = {
            file: {**files.get(file, {}), "tensors": part}
            for file, part in found.files.items()
        }
    return dataclasses.replace(
        evaluation,
        predictions=[p._replace(tensors=tensors) for p, tensors in pairs],
        errors=errors,
        tensors=specs,
    )


def format_breakdown(errors: dict[str, Any]) -> str:
    """What :func:`petmad.training.evaluation.format_errors` leaves out, as text."""
    lines = []
    units = {"forces": "meV/Å", "strain": "meV/atom"}  # of components
    for title in ("elements", "components"):
        for name, part in errors.get(title, {}).items():
            unit = units.get(name.split("_")[0], "meV/Å, forces")
            lines.append(f"{name:12} {part['mae']:10.3f} {part['rmse']:10.3f}  {unit}")
    for title in ("subset", "file"):
        for name, part in errors.get(f"{title}s", {}).items():
            numbers = " ".join(
                [
                    f"{label.replace('_', ' ')} {part[f'{label}_mae']:.3f}"
                    for label in ALL_UNITS
                    if f"{label}_mae" in part
                ]
                + [
                    f"{label.removesuffix('_mae')} {value:.4g}"
                    for label, value in part.get("tensors", {}).items()
                    if label.endswith("_mae")
                ]
            )
            lines.append(f"{title} {name}: MAE of {numbers or 'nothing'}")
    if "uncertainty" in errors:
        quality = errors["uncertainty"]
        lines.append(
            f"errors over predicted deviations: {quality['ratio']:.2f}; slope "
            f"{quality['slope']:.2f}"
        )
    if "averaged" in errors:
        lines.append(f"means over {errors['averaged']['n_orientations']} orientations")
    if "rotations" in errors:
        turned = errors["rotations"]
        lines.append(
            f"spread over {turned['n_rotations']} orientations: "
            f"{turned['energy']:.4g} meV/atom, {turned['forces']:.4g} meV/Å"
        )
    return "\n".join(lines)

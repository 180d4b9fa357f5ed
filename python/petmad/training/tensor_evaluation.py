"""Errors of tensor targets on a labelled file, and how far they are from turning.

A network that learned to turn tensors does so up to a spread, measured here over random
elements of O(3) and told beside every error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from petmad.data import Sample, Structure, collate, make_sample, read_structures
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.data.progress import progress
from petmad.data.structures import LabelKeys, check_species
from petmad.data.tensors import TensorLabel, rotate_components
from petmad.model import EdgeGraph, Potential

from .device import device_of, moved
from .tensor_options import TensorOptions
from .tensors import (
    TensorErrors,
    TensorTarget,
    block_names,
    block_slices,
    gather,
    in_units,
    scaled_tensors,
)


CPU = torch.device("cpu")
N_ROTATIONS = 32
LARGE_SPREAD = 0.2
"""Part of the RMSE below which the spread hardly adds to it (2 % in quadrature)."""


class TensorEvaluation(NamedTuple):
    """Predictions of tensors, and their errors.

    Attributes:
        errors: see :func:`evaluate_tensors`.
        predictions: of each structure, see :func:`entries`.
        files: errors of each file, without rotations, where there are several.
    """

    errors: dict[str, float]
    predictions: list[dict[str, np.ndarray]]
    files: dict[str, dict[str, float]]


def evaluate_tensors(
    potential: Potential,
    file: str | Path,
    keys: dict[str, str] | None = None,
    n_rotations: int = N_ROTATIONS,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Errors and spreads of every block of every tensor target.

    Args:
        potential: the model, evaluated where it is.
        file: extended XYZ; frames without a label count for the others.
        keys: names of labels in the file by target; by default the target's.
        n_rotations: random elements of O(3) per structure; 0 leaves spreads out.
        names: targets to compare; default: all.

    Returns:
        Numbers of :class:`petmad.training.tensors.TensorErrors`; ``<block>_spread``,
        the root mean square deviation of components, turned back, from their mean over
        the rotations; and ``<block>_rmse_averaged``, the error of that mean.

    Raises:
        ValueError: labels are missing or wrong, or the model lacks an element.
    """
    targets = make_targets(potential)
    if names is not None:
        targets = [target for target in targets if target.spec.name in names]
    labels = tensor_labels(targets, keys or {})
    structures = read_structures(file, LabelKeys(energy=None, tensors=labels))
    return tensor_errors(potential, structures, targets, n_rotations).errors


def tensor_labels(
    targets: Sequence[TensorTarget], keys: dict[str, str]
) -> tuple[TensorLabel, ...]:
    """Where a file has the labels of targets; by default under the target's name."""
    return tuple(
        TensorLabel(spec, keys.get(spec.name, spec.name)) for spec, _ in targets
    )


def tensor_errors(
    potential: Potential,
    structures: Sequence[Structure],
    targets: Sequence[TensorTarget],
    n_rotations: int = N_ROTATIONS,
) -> TensorEvaluation:
    """:func:`evaluate_tensors` of structures that were read, with the predictions."""
    check_species(structures, potential.atomic_numbers)
    numbers, cutoff = potential.atomic_numbers, potential.config.cutoff
    errors, averaged = TensorErrors(targets), TensorErrors(targets)
    of_files = {structure.file: TensorErrors(targets) for structure in structures}
    deviations = torch.zeros(len(errors.names), 2, dtype=torch.float64)
    predictions = []
    for structure in progress(structures, "evaluating tensors"):
        sample = make_sample(structure, numbers, cutoff)
        batch = moved(collate([sample]), device_of(potential))
        expected = in_units(potential, scaled_tensors(potential, batch, targets))
        expected = moved(expected, CPU)
        predicted = predict(potential, [sample], targets)
        predictions.append(entries(potential, predicted, batch.graph, targets))
        for part in (errors, of_files[structure.file]):
            part.add(predicted, expected, batch.n_atoms)
        if n_rotations > 0:
            turned = predict_turned(potential, sample, targets, n_rotations)
            mean = {name: values.mean(0) for name, values in turned.items()}
            averaged.add(mean, expected, batch.n_atoms)
            deviations += _deviations(turned, mean, targets)
    results = errors.compute()
    for name, (count, squared) in zip(errors.names, deviations.tolist(), strict=True):
        if count > 0:
            results[f"{name}_spread"] = (squared / count) ** 0.5
            results[f"{name}_rmse_averaged"] = averaged.compute()[f"{name}_rmse"]
    files = {file: part.compute() for file, part in of_files.items()}
    return TensorEvaluation(results, predictions, files if len(files) > 1 else {})


def entries(
    potential: Potential,
    components: dict[str, torch.Tensor],
    graph: EdgeGraph,
    targets: Sequence[TensorTarget],
) -> dict[str, np.ndarray]:
    """Cartesian entries [n_rows, n_entries] of what :func:`predict` says of a graph.

    Compositions are added.
    """
    results = {}
    for spec, _ in targets:
        index = potential.target_names.index(spec.name)
        composition = gather(spec, potential.compositions[index][graph.species], graph)
        whole = components[spec.name] + composition.cpu()
        results[spec.name] = (whole @ spec.rows()).numpy()
    return results


def label_keys(provenance: dict[str, Any]) -> dict[str, str]:
    """Names of the labels a model was trained on, by target; empty where unknown."""
    targets = provenance.get("options", {}).get("targets", {})
    return {name: values["key"] or name for name, values in targets.items()}


def make_targets(potential: Potential) -> list[TensorTarget]:
    """The tensor targets of a model."""
    return [
        TensorTarget(spec, TensorOptions(kind=spec.kind))
        for spec in potential.targets
        if spec.blocks
    ]


def predict(
    potential: Potential, samples: Sequence[Sample], targets: Sequence[TensorTarget]
) -> dict[str, torch.Tensor]:
    """Components [n_rows, n_components] in their units, compositions subtracted.

    Predicted where the model is; on the CPU.
    """
    graph = moved(collate(samples).graph, device_of(potential))
    with torch.no_grad():
        atomic = potential(graph, [spec.name for spec, _ in targets], raw=True)
    raw = {spec.name: gather(spec, atomic[spec.name], graph) for spec, _ in targets}
    return moved(in_units(potential, raw), CPU)


def predict_turned(
    potential: Potential,
    sample: Sample,
    targets: Sequence[TensorTarget],
    n_rotations: int,
) -> dict[str, torch.Tensor]:
    """Predictions on turned copies, turned back; [n_rotations, n_rows, n_components].

    All copies are one batch.
    """
    rotations = [random_rotation(0, 0, k) for k in range(n_rotations)]
    copies = [rotate(sample, rotation) for rotation in rotations]
    values = predict(potential, copies, targets)
    results = {}
    for spec, _ in targets:
        rows = values[spec.name].reshape(n_rotations, -1, spec.n_components)
        results[spec.name] = torch.stack(
            [
                rotate_components(spec, row, rotation.T)
                for row, rotation in zip(rows, rotations, strict=True)
            ]
        )
    return results


def _deviations(
    turned: dict[str, torch.Tensor],
    mean: dict[str, torch.Tensor],
    targets: Sequence[TensorTarget],
) -> torch.Tensor:
    """Per block the number of components and the sum of their squared deviations."""
    rows = []
    for spec, _ in targets:
        squared = (turned[spec.name] - mean[spec.name]).square()
        for _, part in block_slices(spec):
            block = squared[..., part]
            rows.append(torch.stack([block.new_tensor(block.numel()), block.sum()]))
    return torch.stack(rows)


def format_tensor_errors(potential: Potential, errors: dict[str, float]) -> str:
    """A table, one line per block; its columns are explained by its head."""
    head = ("MAE", "RMSE", "of RMS", "averaged", "spread")
    lines = [f"{'':20}" + "".join(f" {title:>10}" for title in head)]
    for spec, _ in make_targets(potential):
        for name in block_names(spec):
            if f"{name}_rmse" not in errors:
                continue
            numbers = [
                f"{errors[f'{name}_mae']:10.5g}",
                f"{errors[f'{name}_rmse']:10.5g}",
            ]
            numbers.append(f"{100 * errors[f'{name}_relative']:9.1f}%")
            for kind in ("rmse_averaged", "spread"):
                value = errors.get(f"{name}_{kind}")
                numbers.append(f"{'-':>10}" if value is None else f"{value:10.3g}")
            lines.append(f"{name:20} {' '.join(numbers)}  {spec.unit}")
    return "\n".join(lines + spread_warnings(errors))


def spread_warnings(errors: dict[str, float]) -> list[str]:
    """A line for each block whose spread is not well below its error."""
    lines = []
    for key, spread in errors.items():
        name = key.removesuffix("_spread")
        rmse = errors.get(f"{name}_rmse", 0.0)
        if key.endswith("_spread") and not spread < LARGE_SPREAD * rmse:
            lines.append(
                f"{name}: predictions spread over rotations by {spread:.3g}, more than "
                f"a fifth of the RMSE of {rmse:.3g}; set `spread_weight`, train "
                "longer, average over rotations, or use `readout: exact` (it has none)"
            )
    return lines

"""Upstream's numbers (metatrain) for every variant, and our models of these variants.

The files come from ``make_golden.py``; weights are made anew from their names.
"""

import functools
import json
import pathlib

import numpy as np
import torch
from structures import Structure
from upstream_names import set_seeded_weights
from variants import ATOMIC_NUMBERS, COVALENT_RADII, TARGETS

from petmad.model import PETConfig, Potential, TargetSpec


GOLDEN = pathlib.Path(__file__).parent / "data" / "golden"
TOLERANCE = 1e-10
"""Of the largest number of an output, or of 1 if that is more; rounding is 1e-13."""


@functools.cache
def golden(variant: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{variant}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@functools.cache
def meta(variant: str) -> dict:
    return json.loads(str(golden(variant)["meta"]))


@functools.cache
def golden_model(variant: str) -> Potential:
    """The variant with upstream's hypers, seeded weights, scales and compositions."""
    numbers = golden(variant)
    targets = TARGETS.get(variant, [TargetSpec()])
    config = PETConfig.from_dict(meta(variant)["hypers"])
    model = Potential(config, ATOMIC_NUMBERS, targets, COVALENT_RADII)
    assert set_seeded_weights(model, variant) == meta(variant)["weights"]
    with torch.no_grad():
        for i, spec in enumerate(targets):
            model.scales[i].copy_(torch.from_numpy(numbers[f"scales/{spec.name}"]))
            if f"compositions/{spec.name}" in numbers:
                values = torch.from_numpy(numbers[f"compositions/{spec.name}"])
                model.compositions[i].copy_(values)
        for uncertainty in model.uncertainties:
            for name, buffer in uncertainty.named_buffers():
                buffer.copy_(torch.from_numpy(numbers[f"llpr/{name}"]))
    return model.double()


def golden_structures(
    variant: str,
) -> dict[str, tuple[Structure, dict[str, np.ndarray]]]:
    """Structures of a golden by name, each with upstream's outputs."""
    found: dict[str, tuple[dict, dict]] = {}
    for name, value in golden(variant).items():
        if name.startswith("structure/"):
            _, key, field = name.split("/", maxsplit=2)
            fields, outputs = found.setdefault(key, ({}, {}))
            if field.startswith("output/"):
                outputs[field.removeprefix("output/")] = value
            else:
                fields[field] = value if value.ndim else int(value)
    return {k: (Structure(**fields), outputs) for k, (fields, outputs) in found.items()}


def assert_close(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    theirs = np.asarray(theirs).reshape(np.shape(ours))
    scale = max(1.0, np.abs(theirs).max(initial=0.0))
    np.testing.assert_allclose(
        ours, theirs, rtol=0, atol=TOLERANCE * scale, err_msg=what
    )


def as_upstream(spec: TargetSpec, values: np.ndarray, volume: float) -> np.ndarray:
    """Upstream's form of one target: summed unless per atom, a stress per volume."""
    if spec.per_atom:
        return values
    total = values.sum(axis=0)
    if spec.kind == "stress":
        return total / volume if volume > 0 else np.zeros_like(total)
    return total

"""Labels of tensor targets: from a file's numbers to components, and their turning.

Components are those of :mod:`petmad.model.tensors`: the blocks of a target side by
side, each with its μ = -λ … λ.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.stress import voigt_6_to_full_3x3_stress

from petmad.model import TargetSpec
from petmad.model.spherical import wigner


ASYMMETRY = 1e-3
"""Largest difference from its transpose, of its size, that passes for symmetric."""


class TensorLabel(NamedTuple):
    """A tensor target and the name of its label in the files."""

    spec: TargetSpec
    key: str


def read_tensor(
    labels: Mapping[str, Any], label: TensorLabel, n_atoms: int, source: str
) -> np.ndarray:
    """Components of one frame's label, [1 or n_atoms, n_components] float64.

    NaN where the frame has no such label.

    Raises:
        ValueError: the label has another shape, is not finite, or not symmetric.
    """
    spec, key = label
    n_rows = n_atoms if spec.per_atom else 1
    if key not in labels:
        return np.full((n_rows, spec.n_components), np.nan)
    rows = spec.rows().numpy()
    try:
        found = np.asarray(labels[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{key}` of {source} must be numbers, got {labels[key]!r}; repair the "
            "frame, or name the right label"
        ) from None
    if found.size == 6 * n_rows and spec.kind == "symmetric":
        voigt = found.reshape(n_rows, 6)
        found = np.stack([voigt_6_to_full_3x3_stress(row) for row in voigt])
    if found.size != n_rows * rows.shape[1]:
        owner = "atom" if spec.per_atom else "structure"
        raise ValueError(
            f"`{key}` of {source} must have {rows.shape[1]} numbers per {owner} for a "
            f"target of kind {spec.kind}, got shape {list(found.shape)} with {n_atoms} "
            "atoms; choose `kind` and `per_atom` of the target to fit"
        )
    entries = found.reshape(n_rows, -1)
    if not np.isfinite(entries).all():
        raise ValueError(
            f"`{key}` of {source} is not finite (NaN or infinite); remove or repair "
            "the frame"
        )
    components = entries @ rows.T
    lost = np.abs(components @ rows - entries).max()
    if lost > ASYMMETRY * max(1.0, np.abs(entries).max()):
        raise ValueError(
            f"`{key}` of {source} is not symmetric (off by {lost:.3g}); use "
            "`kind: matrix`, or symmetrise it"
        )
    return components


def check_origin(spec: TargetSpec, charge: int, source: str) -> None:
    """Refuse a dipole of a charged structure whose origin nobody named.

    Raises:
        ValueError: names the structure and the choices.
    """
    if spec.kind == "vector" and not spec.per_atom and charge != 0 and not spec.origin:
        raise ValueError(
            f"{source} has charge {charge:+d}, so its `{spec.name}` may depend on the "
            f"origin; say which one the labels refer to with `targets.{spec.name}."
            "origin` of the training: center_of_mass, center_of_nuclear_charge, or "
            "independent"
        )


def rotate_components(
    spec: TargetSpec, components: torch.Tensor, rotation: torch.Tensor
) -> torch.Tensor:
    """Components [n_rows, n_components] turned by an element of O(3), [3, 3]."""
    parts, start = [], 0
    for block in spec.blocks:
        stop = start + 2 * block[0] + 1
        parts.append(components[:, start:stop] @ wigner(block, rotation).T)
        start = stop
    return torch.cat(parts, dim=1)

"""Grids of rotations, and means over them of what a model predicts.

A model that learned to be invariant is so up to a spread. Its mean over a grid that
integrates all angular dependence up to some order is invariant to that order: a product
of a Lebedev grid of directions and equal steps of the angle around them, with or
without inversion (Sobolev's theorem and the trapezoidal rule; both are exact).
"""

import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.integrate import lebedev_rule


ORDERS = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
"""Orders of the Lebedev grids in use; the next higher one serves others."""


class RotationGrid(NamedTuple):
    """Elements of O(3) and their weights, which add up to 1.

    Attributes:
        rotations: [n, 3, 3].
        weights: [n].
    """

    rotations: np.ndarray
    weights: np.ndarray


def rotation_grid(order: int, inversion: bool = False) -> RotationGrid:
    """Rotations over which Wigner functions up to ``order`` have their exact mean.

    The number of rotations is that of the Lebedev directions, times order + 1, times 2
    with inversion: 24 for order 3, 84 for order 5.

    Args:
        order: 1 to 31.
        inversion: whether each rotation is used with and without it.

    Raises:
        ValueError: the order is not among these.
    """
    try:
        order = operator.index(order)
    except TypeError:
        raise ValueError(
            f"the order of a grid of rotations must be a whole number, 1 to "
            f"{ORDERS[-1]}, got {order!r}"
        ) from None
    if not 1 <= order <= ORDERS[-1]:
        raise ValueError(
            f"the order of a grid of rotations must be 1 to {ORDERS[-1]}, got {order}"
        )
    directions, weights = lebedev_rule(next(n for n in ORDERS if n >= order))
    n_angles = order + 1
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    rotations = np.array(
        [_to_direction(d) @ _about_z(a) for d in directions.T for a in angles]
    )
    weights = np.repeat(weights / weights.sum(), n_angles) / n_angles
    if inversion:
        rotations = np.concatenate([rotations, -rotations])
        weights = np.concatenate([weights, weights]) / 2
    return RotationGrid(rotations, weights)


def _about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _to_direction(direction: np.ndarray) -> np.ndarray:
    """A rotation that takes z to ``direction``: about y by θ, then about z by φ."""
    x, y, z = direction
    phi = np.arctan2(y, x)
    sine = np.hypot(x, y)
    about_y = np.array([[z, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, z]])
    return _about_z(phi) @ about_y


class TurnedBack(NamedTuple):
    """A prediction for a turned structure, turned back.

    Attributes:
        energy: eV.
        atomic_energies: [n_atoms] eV.
        forces: [n_atoms, 3] eV/Å.
        virial: [3, 3] eV.
        atomic_virials: [n_atoms, 3, 3] eV, or none.
    """

    energy: float
    atomic_energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    atomic_virials: np.ndarray | None


def turn_back(results: dict, rotation: np.ndarray) -> TurnedBack:
    """Results of the engine for x → R x, as for x: f → Rᵀ f, W → Rᵀ W R."""

    def square(values: np.ndarray) -> np.ndarray:
        return rotation.T @ values @ rotation

    atomic_virials = results.get("atomic_virials")
    return TurnedBack(
        results["energy"],
        np.asarray(results["atomic_energies"]),
        np.asarray(results["forces"]) @ rotation,
        square(np.asarray(results["virial"])),
        None if atomic_virials is None else square(np.asarray(atomic_virials)),
    )


def average(
    evaluate: Callable[[np.ndarray], dict], grid: RotationGrid
) -> tuple[dict, dict[str, float]]:
    """Mean over a grid of what the engine gives, and its spread.

    Args:
        evaluate: the engine's results for the structure turned by R [3, 3].
        grid: rotations.

    Returns:
        Energy, forces and virials; and ``energy`` [eV] and ``forces`` [eV/Å], root mean
        square deviations of single orientations from these means.
    """
    parts = list(_turned(evaluate, grid))
    mean = {
        name: _mean([getattr(part, name) for part in parts], grid.weights)
        for name in TurnedBack._fields
        if getattr(parts[0], name) is not None
    }
    spread = {
        name: float(
            np.sqrt(
                sum(
                    w * np.mean((getattr(part, name) - mean[name]) ** 2)
                    for w, part in zip(grid.weights, parts, strict=True)
                )
            )
        )
        for name in ("energy", "forces")
    }
    mean["energy"] = float(mean["energy"])
    return mean, spread


def _turned(
    evaluate: Callable[[np.ndarray], dict], grid: RotationGrid
) -> Iterator[TurnedBack]:
    for rotation in grid.rotations:
        yield turn_back(evaluate(rotation), rotation)


def _mean(values: list, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, np.array(values), axes=1)

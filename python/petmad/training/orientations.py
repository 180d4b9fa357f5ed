"""Predictions for turned structures: their mean, and how far they differ.

PET is not exactly invariant: the mean over a grid of rotations and inversions is nearer
to it, at the cost of so many evaluations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from petmad.data import Structure
from petmad.rotations import rotation_grid

from .direct_errors import Direct
from .evaluation import Prediction, Predictor
from .loss import Labels
from .metrics import MILLI


def averaged(predictor: Predictor, order: int) -> Predictor:
    """A model whose predictions are means over orientations.

    Args:
        predictor: the model.
        order: of the grid, which includes inversion: 48 orientations for order 3.

    Returns:
        Energies, forces and strain gradients are means, those of direct heads, too, and
        deviations, which is the most that the deviation of a mean can be.

    Raises:
        ValueError: there is no grid of this order.
    """
    grid = rotation_grid(order, inversion=True)

    def predict(structure: Structure) -> Prediction:
        parts = [turned(predictor, structure, r) for r in grid.rotations]
        weights = torch.from_numpy(grid.weights)

        def mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.tensordot(weights, torch.stack(list(values)).double(), dims=1)

        labels = Labels(*map(mean, zip(*(part.labels for part in parts), strict=True)))
        deviation = grid.weights @ [part.deviation for part in parts]
        direct = Direct(
            *(
                None if values[0] is None else mean(values)
                for values in zip(*(part.direct for part in parts), strict=True)
            )
        )
        return Prediction(labels, float(deviation), direct)

    return Predictor(predictor.atomic_numbers, predict, predictor.has_energy)


def turned(
    predictor: Predictor, structure: Structure, rotation: np.ndarray
) -> Prediction:
    """The prediction for x → R x, turned back: f → Rᵀ f, G → Rᵀ G R.

    Args:
        predictor: the model.
        structure: as it stands in its file.
        rotation: R [3, 3], with or without inversion.
    """
    predicted = predictor.predict(
        dataclasses.replace(
            structure,
            positions=structure.positions @ rotation.T,
            cell=structure.cell @ rotation.T,
        )
    )
    back = torch.from_numpy(rotation.T)

    def turn(
        forces: torch.Tensor | None, gradients: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return (
            None if forces is None else forces.double() @ back.T,
            None if gradients is None else back @ gradients.double() @ back.T,
        )

    energies, *gradients = predicted.labels
    labels = Labels(energies, *turn(*gradients))
    return Prediction(labels, predicted.deviation, Direct(*turn(*predicted.direct)))


def rotational_errors(
    predictor: Predictor, structures: Sequence[Structure], order: int
) -> dict[str, float]:
    """Root mean square deviations of single orientations from their mean.

    Args:
        predictor: the model.
        structures: to turn.
        order: of the grid, which includes inversion.

    Returns:
        ``energy`` [meV/atom], ``forces`` [meV/Å], ``n_rotations``, ``n_structures``.
    """
    grid = rotation_grid(order, inversion=True)
    energies, forces = [], []
    for structure in structures:
        parts = [turned(predictor, structure, r).labels for r in grid.rotations]
        for values, found, scale in (
            (energies, [p.energies.numpy() for p in parts], 1 / len(parts[0].forces)),
            (forces, [p.forces.numpy() for p in parts], 1.0),
        ):
            deviations = np.array(found) - np.tensordot(grid.weights, found, axes=1)
            squares = np.square(scale * deviations).reshape(len(found), -1).mean(1)
            values.append(grid.weights @ squares)
    return {
        "energy": MILLI * float(np.sqrt(np.mean(energies))),
        "forces": MILLI * float(np.sqrt(np.mean(forces))),
        "n_rotations": len(grid.rotations),
        "n_structures": len(structures),
    }

"""What is fitted before training: energies of single atoms, a scale for the rest."""

from collections.abc import Sequence

import torch

from petmad.data import Sample
from petmad.data.lazy import labels_of


RANK_TOLERANCE = 1e-10
"""Relative size below which singular values of the composition matrix count as zero.
The solution of smallest norm is the limit of upstream's ridge, without its rounding."""
BLOCK = 8192
"""Structures after which the equations of a large set are reduced to as many as there
are unknowns."""


def fit_composition(samples: Sequence[Sample], n_species: int) -> torch.Tensor:
    """Energy of each species that best explains the total energies, by least squares.

    Args:
        samples: training samples.
        n_species: of the model.

    Returns:
        [n_species] float64 eV. Where the compositions cannot tell species apart, the
        smallest energies.
    """
    rows: list[torch.Tensor] = []
    for sample in labels_of(samples):
        counts = torch.bincount(sample.species, minlength=n_species)
        rows.append(torch.cat([counts.to(torch.float64), sample.energy[None]]))
        if len(rows) == BLOCK:
            # Rotating the equations keeps their solution; the last row is the misfit.
            rows = list(torch.linalg.qr(torch.stack(rows), mode="r").R)
    equations = torch.stack(rows)
    return torch.linalg.lstsq(
        equations[:, :-1], equations[:, -1:], rcond=RANK_TOLERANCE, driver="gelsd"
    ).solution[:, 0]


def energy_spread(samples: Sequence[Sample], composition: torch.Tensor) -> float:
    """Root mean square of (energy - composition) per atom [eV]."""
    residuals = torch.stack(
        [
            (s.energy - composition[s.species.long()].sum()) / len(s.species)
            for s in labels_of(samples)
        ]
    )
    return float(residuals.square().mean().sqrt())


def force_spread(samples: Sequence[Sample]) -> float:
    """Root mean square of the known force components [eV/Å]."""
    total, count = 0.0, 0
    for sample in labels_of(samples):
        known = sample.forces[~torch.isnan(sample.forces)]
        total += float(known.square().sum())
        count += known.numel()
    return (total / count) ** 0.5 if count else float("nan")


def has_forces(samples: Sequence[Sample]) -> bool:
    """Whether any force is known."""
    return any(not torch.isnan(s.forces).all() for s in labels_of(samples))


def fit_scale(
    samples: Sequence[Sample], composition: torch.Tensor, choice: str | float
) -> float:
    """The energy scale [eV] for the option ``training.energy_scale``.

    Raises:
        ValueError: the data give no scale, all energies or forces being alike.
    """
    if not isinstance(choice, str):
        return float(choice)
    if choice == "energy":
        scale = energy_spread(samples, composition)
    else:
        scale = force_spread(samples)
    if not scale > 1e-8:
        raise ValueError(
            f"the {choice} of the training structures give an energy scale of "
            f"{scale:.3g} eV: they hold nothing to learn beyond the composition; set "
            "`training.energy_scale` to the other choice or to a number in eV"
        )
    return scale

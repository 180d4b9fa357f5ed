"""``petmad uncertainty fit``: error bars for a trained model, not trained again.

Last-layer prediction rigidity (Bigi et al., Mach. Learn.: Sci. Technol. 5, 045018,
2024): with f the last-layer features of a structure and C their covariance over the
training set, C = Σ (f/n)(f/n)ᵀ, the variance of its energy is m² fᵀ (C + λ)⁻¹ f. The
multiplier m is fitted to the errors of validation structures; the regularizer λ to
theirs and to those of the training structures, each left out of C in its turn: few
validation structures alone hardly tell one λ from another.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from petmad.data import Sample, collate
from petmad.data.lazy import sizes_of
from petmad.model import Potential, TargetSpec
from petmad.model.uncertainty import Uncertainty, factorize

from .calibration import Calibration, calibrate
from .device import device_of, moved
from .loss import ENERGY
from .start import with_targets


LOG = logging.getLogger(__name__)
REGULARIZERS = 10.0 ** np.arange(-12.0, 1.0)
"""Candidates for λ, in units of the mean of C's diagonal.

None is above 1: C would hardly count any more, and the bars of structures of one size
would be alike, of those unlike all training structures, too.
"""
BATCH = 8
LEAST_LEFT = 1e-9
"""Of a structure's variance that must be left when C knows it, against rounding."""


class Features(NamedTuple):
    """Of structures.

    Attributes:
        sums: [n, width] float64, last-layer features summed over atoms.
        n_atoms: [n].
        errors: [n] predicted minus true energy [eV].
    """

    sums: torch.Tensor
    n_atoms: torch.Tensor
    errors: torch.Tensor


class Fit(NamedTuple):
    """A model with uncertainties, and how they were found.

    Attributes:
        potential: the model, otherwise unchanged.
        regularizer: λ, in units of the mean of C's diagonal; 0: as small as works.
        multiplier: m.
        calibration: on the validation structures, energies per atom [eV].
    """

    potential: Potential
    regularizer: float
    multiplier: float
    calibration: Calibration


def fit_uncertainty(
    potential: Potential,
    train: Sequence[Sample],
    valid: Sequence[Sample],
    target: str = ENERGY,
    n_members: int = 128,
    regularizer: float | None = None,
    calibration: str = "absolute",
    seed: int = 0,
) -> Fit:
    """Give a model the uncertainty of one of its energies, and an ensemble around it.

    Args:
        potential: the model; left unchanged. The fit is done where it is, and the
            result is there, too.
        train: what it was trained on, with energies at the level of ``target``.
        valid: what it was not trained on, likewise.
        target: name of the energy.
        n_members: of the ensemble, drawn from the same distribution; 0 for none.
        regularizer: λ in units of the mean of C's diagonal; 0 takes the smallest that
            works, as upstream does; by default the one that makes the errors of all
            structures most likely.
        calibration: ``absolute``, m from the mean of errors over deviations, or
            ``squared``, of their squares.
        seed: of the ensemble.

    Raises:
        ValueError: the model has no such energy, or no structure is left to fit to.
    """
    check_target(potential, target)
    if regularizer is not None and not regularizer >= 0:
        raise ValueError(
            f"`regularizer` must be 0 or more, got {regularizer}; leave it out to have "
            "it chosen"
        )
    for name, samples in (("training", train), ("validation", valid)):
        if len(samples) < 2:
            raise ValueError(
                f"{len(samples)} {name} structures are too few to fit an uncertainty; "
                "give more"
            )
    seen, unseen = (last_features(potential, s, target) for s in (train, valid))
    covariance = covariance_of(seen)
    if regularizer is None:
        losses = [unlikeliness(covariance, seen, unseen, r) for r in REGULARIZERS]
        regularizer = float(REGULARIZERS[np.argmin(losses)])
    cholesky = _cholesky(covariance, regularizer)
    plain = _deviations(cholesky, unseen)
    multiplier = _multiplier(unseen.errors / plain, calibration)
    result = _with_uncertainty(potential, target, n_members).to(device_of(potential))
    names = [module.target for module in result.uncertainties]
    module = result.uncertainties[names.index(target)]
    module.cholesky.copy_(cholesky)
    module.multiplier.fill_(multiplier)
    if n_members > 0:
        module.members.copy_(draw_members(result, target, module, seed))
    quality = calibrate(
        (multiplier * plain / unseen.n_atoms).cpu().numpy(),
        (unseen.errors / unseen.n_atoms).cpu().numpy(),
    )
    return Fit(result, regularizer, multiplier, quality)


def check_target(potential: Potential, target: str) -> None:
    """Refuse a target that is no energy of the model.

    Raises:
        ValueError: names those that are.
    """
    energies = [spec.name for spec in potential.targets if spec.kind == "energy"]
    if target not in energies:
        raise ValueError(
            f"the model has no energy {target!r} to tell the uncertainty of; it has "
            f"{energies}"
        )


def last_features(
    potential: Potential, samples: Sequence[Sample], target: str
) -> Features:
    """Last-layer features and errors of structures, all where the model is."""
    output = f"last_layer_features/{target}"
    device = device_of(potential)
    sums, errors = [], []
    for start in range(0, len(samples), BATCH):
        batch = collate(
            [samples[i] for i in range(start, min(start + BATCH, len(samples)))]
        )
        batch = moved(batch, device)
        with torch.no_grad():
            results = potential(batch.graph, [target, output])
        total = torch.zeros_like(batch.energies)
        predicted = total.index_add(0, batch.graph.structures, results[target][:, 0])
        features = results[output].double()
        empty = features.new_zeros(len(batch.n_atoms), features.shape[1])
        sums.append(empty.index_add(0, batch.graph.structures, features))
        errors.append(predicted - batch.energies)
    n_atoms = torch.from_numpy(sizes_of(samples).astype(np.int64))
    return Features(torch.cat(sums), n_atoms.to(device), torch.cat(errors))


def covariance_of(seen: Features) -> torch.Tensor:
    """C, [width, width]."""
    per_atom = seen.sums / seen.n_atoms[:, None]
    return per_atom.T @ per_atom


def _cholesky(covariance: torch.Tensor, regularizer: float) -> torch.Tensor:
    """L of C + λ, λ in units of the mean of C's diagonal."""
    eye = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    return factorize(covariance + regularizer * covariance.diagonal().mean() * eye)


def _deviations(cholesky: torch.Tensor, structures: Features) -> torch.Tensor:
    """√(fᵀ (C + λ)⁻¹ f) of each structure."""
    return torch.linalg.solve_triangular(cholesky, structures.sums.T, upper=False).norm(
        dim=0
    )


def _multiplier(ratios: torch.Tensor, calibration: str) -> float:
    """From errors over deviations."""
    if calibration == "absolute":  # of a normal distribution, whose mean |x| this is
        return float(ratios.abs().mean() * np.sqrt(np.pi / 2))
    return float(ratios.square().mean().sqrt())


def unlikeliness(
    covariance: torch.Tensor, seen: Features, unseen: Features, regularizer: float
) -> float:
    """Minus the log-likelihood of all errors, but for a constant.

    Training and validation errors have each a multiplier of their own, the most likely
    one: a network errs less where it was trained.
    """
    cholesky = _cholesky(covariance, regularizer)
    leverages = (_deviations(cholesky, seen) / seen.n_atoms).square()
    left_out = (leverages / (1 - leverages).clamp(min=LEAST_LEFT)).sqrt() * seen.n_atoms
    loss = 0.0
    for part, deviations in ((seen, left_out), (unseen, _deviations(cholesky, unseen))):
        multiplier = _multiplier(part.errors / deviations, "squared")
        loss += float((multiplier * deviations).log().sum())
    return loss


def _with_uncertainty(potential: Potential, target: str, n_members: int) -> Potential:
    """A copy whose target has room for an uncertainty; that of others is kept."""
    specs = []
    for spec in potential.targets:
        values = spec.to_dict()
        if spec.name == target:
            values.update(has_uncertainty=True, n_members=n_members)
        specs.append(TargetSpec(**values))
    return with_targets(potential, specs, [], fresh_uncertainty=target).eval()


def draw_members(
    potential: Potential, target: str, module: Uncertainty, seed: int
) -> torch.Tensor:
    """Last layers of an ensemble, [n_members, width]: its own plus m L⁻ᵀ z.

    The normal z are centered over the members.
    """
    index = potential.target_names.index(target)
    readout, scale = potential.readouts[index], potential.scales[index][0, 0]
    own = torch.cat(
        [
            layer.weight[0].detach().double()
            for pair in zip(readout.node_last, readout.edge_last, strict=True)
            for layer in pair
        ]
    )
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(len(own), module.n_members, dtype=torch.float64, generator=random)
    z = (z - z.mean(dim=1, keepdim=True)).to(own.device)
    shifts = torch.linalg.solve_triangular(module.cholesky.T, z, upper=True)
    return scale * own + module.multiplier * shifts.T

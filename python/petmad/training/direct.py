"""Direct heads in training: forces and stress read off the network, no gradient of it.

They are cheap, since nothing is differentiated twice, and so a training may begin with
them alone and turn to gradients of the energy later (:mod:`petmad.training.stages`).
Their scales are the root mean squares of forces and of strain gradients per atom.
"""

from collections.abc import Collection, Sequence

import torch

from petmad.data import Batch, Sample
from petmad.data.lazy import labels_of, of_level
from petmad.model import Potential, TargetSpec

from .baseline import force_spread
from .loss import Labels, term_value
from .loss_options import LossOptions
from .options import TrainingOptions
from .stages import losses_of


FORCE = TargetSpec("non_conservative_force", "force", 3, True, "eV/A")
STRESS = TargetSpec("non_conservative_stress", "stress", 9, False, "eV")
"""Per atom, its sum over a structure is the strain gradient."""


def direct_targets(options: TrainingOptions) -> list[TargetSpec]:
    """Those that any stage trains."""
    losses = losses_of(options)
    trained = {
        FORCE.name: any(loss.direct_forces.weight > 0 for loss in losses),
        STRESS.name: any(loss.direct_stress.weight > 0 for loss in losses),
    }
    return [spec for spec in (FORCE, STRESS) if trained[spec.name]]


def fit_direct_scales(
    potential: Potential, samples: Sequence[Sample], specs: Sequence[TargetSpec]
) -> None:
    """Fit the scales of direct heads and store them in the model.

    Raises:
        ValueError: the training structures have no forces, or stresses, to learn.
    """
    chosen = of_level(samples, 0)
    for spec in specs:
        is_force = spec.name == FORCE.name
        scale = force_spread(chosen) if is_force else strain_spread(chosen)
        if not scale > 0:
            what = "forces" if is_force else "stress"
            raise ValueError(
                f"no training structure has {what} other than zero for "
                f"`training.loss.direct_{what}` to learn; set its weight to 0"
            )
        index = potential.target_names.index(spec.name)
        potential.scales[index].data.fill_(scale)


def strain_spread(samples: Sequence[Sample]) -> float:
    """Root mean square of known strain gradients per atom [eV]; NaN without any."""
    total, count = 0.0, 0
    for sample in labels_of(samples):
        known = sample.strain_gradients / len(sample.species)
        known = known[~torch.isnan(known)]
        total += float(known.square().sum())
        count += known.numel()
    return (total / count) ** 0.5 if count else float("nan")


def direct_labels(
    potential: Potential, atomic: dict[str, torch.Tensor], batch: Batch
) -> Labels:
    """What direct heads predict [eV, eV/Å], from raw values per atom; NaN without one.

    The energies are NaN, since no head predicts them.
    """
    graph = batch.graph
    forces = torch.full_like(batch.forces, float("nan"))
    strains = torch.full_like(batch.strain_gradients, float("nan"))
    names = potential.target_names
    if FORCE.name in atomic:
        scale = potential.scales[names.index(FORCE.name)]
        forces = atomic[FORCE.name].to(torch.float64) * scale[graph.species]
    if STRESS.name in atomic:
        scale = potential.scales[names.index(STRESS.name)]
        values = atomic[STRESS.name].to(torch.float64) * scale[graph.species]
        strains = torch.zeros_like(strains).reshape(-1, 9)
        strains = strains.index_add(0, graph.structures, values).reshape(-1, 3, 3)
    return Labels(torch.full_like(batch.energies, float("nan")), forces, strains)


def true_direct(batch: Batch) -> Labels:
    """Labels of the main level [eV, eV/Å]; energies are NaN."""
    other = batch.levels != 0
    forces = batch.forces.masked_fill(
        other[batch.graph.structures][:, None], float("nan")
    )
    strains = batch.strain_gradients.masked_fill(other[:, None, None], float("nan"))
    return Labels(torch.full_like(batch.energies, float("nan")), forces, strains)


def of_heads(labels: Labels, heads: Collection[str]) -> Labels:
    """Labels, unknown where there is no head to compare with them."""
    unknown = float("nan")
    return labels._replace(
        forces=labels.forces if FORCE.name in heads else labels.forces * unknown,
        strain_gradients=labels.strain_gradients
        if STRESS.name in heads
        else labels.strain_gradients * unknown,
    )


def direct_terms(
    potential: Potential,
    predicted: Labels,
    batch: Batch,
    loss: LossOptions,
    counts: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Terms of the loss, in units of each head's scale or in eV and Å.

    Args:
        potential: whose scales count.
        predicted: see :func:`direct_labels`.
        batch: with the labels.
        loss: options.
        counts: see :func:`petmad.training.loss.loss_terms`.
    """
    targets = true_direct(batch)
    per_atom = batch.n_atoms[:, None, None]
    residuals = {
        "direct_forces": (FORCE, 1, predicted.forces - targets.forces),
        "direct_stress": (
            STRESS,
            2,
            (predicted.strain_gradients - targets.strain_gradients) / per_atom,
        ),
    }
    terms = {}
    for name, (spec, i, residual) in residuals.items():
        if spec.name not in potential.target_names:
            continue
        if loss.units == "scale":
            index = potential.target_names.index(spec.name)
            residual = residual / potential.scales[index][0, 0]
        count = None if counts is None else counts[i]
        value = term_value(residual, targets[i], getattr(loss, name), count)
        if value is not None:
            terms[name] = value
    return terms

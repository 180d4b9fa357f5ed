"""What is fitted of tensor targets before training: compositions, scales and terms.

A scale is the root mean square of what the fits leave of a block, not centered: a mean
subtracted from a block of order above 0 would not turn with the structure. Compositions
are fitted to proper scalars alone.
"""

import logging
from collections.abc import Iterable, Sequence

import torch

from petmad.data import Sample
from petmad.data.lazy import labels_of
from petmad.model import Potential, TargetSpec
from petmad.model.tensors import Block

from .baseline import RANK_TOLERANCE
from .fitted_terms import TermColumns
from .linear_fit import Regression
from .tensors import TensorTarget, block_names, block_slices


LOG = logging.getLogger(__name__)
LEAST_SHARE = 1e-3
"""Of the labels, for a network to learn beside terms that tell it all."""


def fit_tensor_baseline(
    potential: Potential, samples: Sequence[Sample], targets: Sequence[TensorTarget]
) -> None:
    """Fit compositions, terms and scales of tensor targets, in the model.

    Raises:
        ValueError: a block is zero throughout the training structures.
    """
    n_species = len(potential.atomic_numbers)
    for target in targets:
        spec, options = target
        index = potential.target_names.index(spec.name)
        known = _known(labels_of(samples), spec)
        values = torch.cat([s.tensors[spec.name] for s in known])
        counts = torch.cat([_species_counts(s, n_species, spec) for s in known])
        sizes = counts.sum(1, keepdim=True) ** options.size_exponent
        composition = torch.zeros(n_species, spec.n_components, dtype=torch.float64)
        for block, part in block_slices(spec):
            fitted, residual = _fit_counts(
                counts[:, : _n_counted(block, n_species)], values[:, part]
            )
            scale = float((residual / sizes).square().mean().sqrt())
            if not scale > 1e-8 * max(1.0, float(values.abs().max())):
                raise ValueError(
                    f"the block of order {block[0]} and parity {block[1]} of "
                    f"`{spec.name}` is zero in all training structures; use a `kind` "
                    "without it"
                )
            composition[: len(fitted), part] = fitted
            potential.scales[index].data[:, part] = scale
        potential.compositions[index].data.copy_(composition)
        if spec.pair_terms or spec.token_terms:
            _fit_terms(potential, _known(samples, spec), target)


def _fit_terms(
    potential: Potential, samples: Sequence[Sample], target: TensorTarget
) -> None:
    """Fit pair and token terms together with the composition; pseudotensors have none.

    Errors are weighed as in the loss: per ``size_exponent`` and ``spread_weight``.
    """
    spec, options = target
    index = potential.target_names.index(spec.name)
    n_species = len(potential.atomic_numbers)
    present = torch.cat([sample.species for sample in samples]).unique().tolist()
    columns = TermColumns(potential, spec, present)
    regressions = [
        Regression(columns.families(i), _n_counted(block, n_species))
        for i, block in enumerate(spec.blocks)
    ]
    for i_sample, sample in enumerate(samples):
        counts = _species_counts(sample, n_species, spec)
        sizes = counts.sum(1)[:, None] ** options.size_exponent
        labels = sample.tensors[spec.name] / sizes
        for regression, (block, part), found in zip(
            regressions, block_slices(spec), columns.of(sample, i_sample), strict=True
        ):
            counted = (counts / sizes)[:, : regression.n_fixed]
            regression.add(
                (found / sizes[:, :, None]).flatten(1, 2),
                counted.repeat_interleave(2 * block[0] + 1, dim=0),
                labels[:, part].flatten(),
            )
    for i, ((order, parity), part) in enumerate(block_slices(spec)):
        if parity < 0:
            continue
        fit = regressions[i].solve(1.0 + options.spread_weight)
        scale = float(potential.scales[index][0, part][0])
        share = fit.residual**0.5 / scale
        LOG.info("fitted terms leave %.2g %% of %s", 100 * share, block_names(spec)[i])
        scale *= max(share, LEAST_SHARE)
        columns.store(i, fit.weights / scale)
        potential.scales[index].data[:, part] = scale
        if order == 0:
            potential.compositions[index].data[:, part] = fit.fixed[:, None]


def _n_counted(block: Block, n_species: int) -> int:
    """Columns of a block's composition."""
    return n_species if block == (0, 1) else 0


def _known(samples: Iterable[Sample], spec: TargetSpec) -> list[Sample]:
    """Those with a label of the target."""
    return [s for s in samples if not torch.isnan(s.tensors[spec.name]).any()]


def _fit_counts(
    counts: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What atoms of each species [n_species, n] tell of labels, and what they leave."""
    if counts.shape[1] == 0:
        return labels[:0], labels
    fitted = torch.linalg.lstsq(
        counts, labels, rcond=RANK_TOLERANCE, driver="gelsd"
    ).solution
    return fitted, labels - counts @ fitted


def _species_counts(sample: Sample, n_species: int, spec: TargetSpec) -> torch.Tensor:
    """Atoms of each species in what a row of the target belongs to."""
    one_hot = torch.nn.functional.one_hot(sample.species.long(), n_species)
    counts = one_hot.to(torch.float64)
    return counts if spec.per_atom else counts.sum(0, keepdim=True)

"""Tensor targets in training: scales, predictions, loss terms and errors.

Everything is in components, block by block. A scale is the root mean square of a block,
not centered: a mean subtracted from a block of order above 0 would not turn with the
structure. Compositions are fitted to proper scalars alone.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from petmad.data import Batch, Sample
from petmad.data.lazy import labels_of
from petmad.data.tensors import TensorLabel
from petmad.model import EdgeGraph, Potential, TargetSpec
from petmad.model.tensors import Block

from .baseline import RANK_TOLERANCE
from .loss import term_value
from .options import Options, TensorOptions
from .pair_fit import fit_block, pair_columns


LOG = logging.getLogger(__name__)
LEAST_SHARE = 1e-3
"""Of the labels, for a network to learn beside pair terms that tell it all."""


class TensorTarget(NamedTuple):
    """A tensor target and how it is trained."""

    spec: TargetSpec
    options: TensorOptions


def tensor_targets(options: Options) -> list[TensorTarget]:
    """The targets of the options, in order."""
    return [
        TensorTarget(values.spec(name), values)
        for name, values in options.targets.items()
    ]


def tensor_labels(options: Options) -> tuple[TensorLabel, ...]:
    """Where the files have them."""
    return tuple(
        TensorLabel(values.spec(name), values.key or name)
        for name, values in options.targets.items()
    )


def block_slices(spec: TargetSpec) -> list[tuple[Block, slice]]:
    """Each block of a target and its components."""
    slices, start = [], 0
    for block in spec.blocks:
        stop = start + 2 * block[0] + 1
        slices.append((block, slice(start, stop)))
        start = stop
    return slices


def block_names(spec: TargetSpec) -> list[str]:
    """``<target>_l<order>`` of each block; a target has no two of one order."""
    return [f"{spec.name}_l{order}" for order, _ in spec.blocks]


def fit_tensor_baseline(
    potential: Potential, samples: Sequence[Sample], targets: Sequence[TensorTarget]
) -> None:
    """Fit compositions, pair terms and scales of tensor targets, in the model.

    Raises:
        ValueError: a block is zero throughout the training structures.
    """
    n_species = len(potential.atomic_numbers)
    for spec, options in targets:
        index = potential.target_names.index(spec.name)
        known = _known(labels_of(samples), spec)
        values = torch.cat([s.tensors[spec.name] for s in known])
        counts = torch.cat([_species_counts(s, n_species, spec) for s in known])
        sizes = counts.sum(1, keepdim=True) ** options.size_exponent
        composition = torch.zeros(n_species, spec.n_components, dtype=torch.float64)
        for i, (block, part) in enumerate(block_slices(spec)):
            counted = counts if block == (0, 1) else counts[:, :0]
            fitted, residual = _fit_counts(counted, values[:, part])
            scale = float((residual / sizes).square().mean().sqrt())
            if not scale > 1e-8 * max(1.0, float(values.abs().max())):
                raise ValueError(
                    f"the block of order {block[0]} and parity {block[1]} of "
                    f"`{spec.name}` is zero in all training structures; use a `kind` "
                    "without it"
                )
            if spec.pair_terms and block[1] > 0:
                terms = potential.readouts[index].pair_terms
                columns = pair_columns(
                    terms, terms.blocks[i], _known(samples, spec), spec.per_atom
                )
                by_pairs = fit_block(columns, values[:, part], counted)
                fitted, left = _fit_counts(
                    counted, values[:, part] - columns @ by_pairs
                )
                share = float((left / sizes).square().mean().sqrt()) / scale
                scale *= max(share, LEAST_SHARE)
                weights = terms.blocks[i].weights
                weights.copy_((by_pairs / scale).reshape(weights.shape))
                name = block_names(spec)[i]
                LOG.info("pair terms leave %.2g %% of %s", 100 * share, name)
            if counted.shape[1] > 0:
                composition[:, part] = fitted
            potential.scales[index].data[:, part] = scale
        potential.compositions[index].data.copy_(composition)


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


def gather(spec: TargetSpec, atomic: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
    """Rows of a target [n_rows, n_components] float64 from values per atom."""
    atomic = atomic.to(torch.float64)
    if spec.per_atom:
        return atomic
    total = atomic.new_zeros(graph.charges.shape[0], atomic.shape[1])
    return total.index_add(0, graph.structures, atomic)


def scaled_tensors(
    potential: Potential, batch: Batch, targets: Sequence[TensorTarget]
) -> dict[str, torch.Tensor]:
    """What the raw predictions should be; NaN where unknown."""
    scaled = {}
    for spec, _ in targets:
        index = potential.target_names.index(spec.name)
        composition = potential.compositions[index][batch.graph.species]
        label = batch.tensors[spec.name] - gather(spec, composition, batch.graph)
        scaled[spec.name] = label / potential.scales[index][0]
    return scaled


def tensor_terms(
    predicted: dict[str, torch.Tensor],
    scaled: dict[str, torch.Tensor],
    n_atoms: torch.Tensor,
    targets: Sequence[TensorTarget],
) -> dict[str, torch.Tensor]:
    """Loss of each block times its weights; blocks without known labels are left out.

    The mean square over all components of a block does not change when it turns.
    """
    terms = {}
    for spec, options in targets:
        residual = predicted[spec.name] - scaled[spec.name]
        if not spec.per_atom:
            residual = residual / n_atoms[:, None] ** options.size_exponent
        weights = options.block_weights or [1.0] * len(spec.blocks)
        for name, (_, part), weight in zip(
            block_names(spec), block_slices(spec), weights, strict=True
        ):
            term = term_value(
                residual[:, part], scaled[spec.name][:, part], options.loss
            )
            if term is not None and weight > 0:
                terms[name] = weight * term
    return terms


class TensorErrors:
    """Running errors of each block, in the target's unit, over rows and components.

    Per block: number of components, sums of absolute and squared errors, of squared
    labels (composition subtracted), and of squared errors per atom.
    """

    def __init__(self, targets: Sequence[TensorTarget]) -> None:
        self.targets = list(targets)
        self.names = [name for spec, _ in self.targets for name in block_names(spec)]
        self.units = {
            name: spec.unit for spec, _ in self.targets for name in block_names(spec)
        }
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums = torch.zeros(len(self.names), 5, dtype=torch.float64)

    def add(
        self,
        predicted: dict[str, torch.Tensor],
        labels: dict[str, torch.Tensor],
        n_atoms: torch.Tensor,
    ) -> None:
        """Add a batch, in units of the target, compositions subtracted from both."""
        row = 0
        for spec, _ in self.targets:
            for _, part in block_slices(spec):
                label = labels[spec.name][:, part].detach().cpu()
                known = ~torch.isnan(label)
                error = predicted[spec.name][:, part].detach().cpu() - label
                per_atom = error if spec.per_atom else error / n_atoms.cpu()[:, None]
                self.sums[row] += torch.stack(
                    [
                        known.sum().double(),
                        error[known].abs().sum(),
                        error[known].square().sum(),
                        label[known].square().sum(),
                        per_atom[known].square().sum(),
                    ]
                )
                row += 1

    def compute(self) -> dict[str, float]:
        """``_mae``, ``_rmse``, ``_relative`` and ``_rmse_per_atom`` of each block.

        Relative is the RMSE over the root mean square of the labels.
        """
        results = {}
        for name, sums in zip(self.names, self.sums.tolist(), strict=True):
            count, absolute, squared, label, per_atom = sums
            if count > 0:
                results[f"{name}_mae"] = absolute / count
                results[f"{name}_rmse"] = (squared / count) ** 0.5
                results[f"{name}_relative"] = (squared / max(label, 1e-300)) ** 0.5
                results[f"{name}_rmse_per_atom"] = (per_atom / count) ** 0.5
        return results


def in_units(
    potential: Potential, scaled: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Scaled tensors in the target's unit, their compositions still subtracted."""
    return {
        name: value * potential.scales[potential.target_names.index(name)][0]
        for name, value in scaled.items()
    }

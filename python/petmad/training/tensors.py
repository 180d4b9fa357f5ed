"""Tensor targets in training: predictions, loss terms and errors.

Everything is in components, block by block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from petmad.data import Batch
from petmad.data.tensors import TensorLabel
from petmad.model import EdgeGraph, Potential, TargetSpec
from petmad.model.tensors import Block

from .loss import term_value
from .options import Options
from .tensor_options import TensorOptions


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


def names_of(targets: Sequence[TensorTarget]) -> list[str]:
    """Of the blocks of all targets, in order."""
    return [name for spec, _ in targets for name in block_names(spec)]


def known_components(
    labels: dict[str, torch.Tensor], targets: Sequence[TensorTarget]
) -> torch.Tensor:
    """Numbers of components that are not NaN, of each block, [n_blocks] float64."""
    counts = [
        (~torch.isnan(labels[spec.name][:, part])).sum()
        for spec, _ in targets
        for _, part in block_slices(spec)
    ]
    return torch.stack(counts).double()


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
    counts: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Loss of each block times its weights; blocks without known labels are left out.

    The mean square over all components of a block does not change when it turns.

    Args:
        predicted: [n_rows, n_components] by target.
        scaled: what they should be, NaN where unknown.
        n_atoms: [n_structures].
        targets: in the order of the counts.
        counts: [n_blocks] what the sums over blocks are divided by, in place of the
            number of known components; see :func:`known_components`.
    """
    terms: dict[str, torch.Tensor] = {}
    remaining = [None] * len(names_of(targets)) if counts is None else list(counts)
    for spec, options in targets:
        residual = predicted[spec.name] - scaled[spec.name]
        if not spec.per_atom:
            residual = residual / n_atoms[:, None] ** options.size_exponent
        weights = options.block_weights or [1.0] * len(spec.blocks)
        for name, (_, part), weight in zip(
            block_names(spec), block_slices(spec), weights, strict=True
        ):
            term = term_value(
                residual[:, part],
                scaled[spec.name][:, part],
                options.loss,
                remaining.pop(0),
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
        self.names = names_of(self.targets)
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

"""A loss term that makes learned tensors turn with the structure.

Rotated copies already teach a network to turn, but only as far as that lowers the
error: of a small spread over rotations the loss sees the square. Here the same
structures are evaluated once more, turned, and what differs is weighed by itself.
"""

from collections.abc import Sequence

import torch

from petmad.data import Batch
from petmad.data.tensors import rotate_components
from petmad.model import Potential

from .tensors import TensorTarget, block_names, block_slices, gather, names_of


def turning_terms(
    potential: Potential,
    batch: Batch,
    predicted: dict[str, torch.Tensor],
    targets: Sequence[TensorTarget],
    rotation: torch.Tensor,
    counts: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Half the mean squared difference between two orientations, times its weight.

    Of two independent orientations this is the variance over all of them, so a
    ``spread_weight`` of w counts that part of the mean squared error 1 + w times.

    Args:
        potential: the model.
        batch: as it was evaluated.
        predicted: [n_rows, n_components] by target, from that evaluation.
        targets: those without a ``spread_weight`` are passed over.
        rotation: [3, 3] float64, of O(3).
        counts: [n_blocks] what the sums over blocks of all targets are divided by, in
            place of the number of components.

    Returns:
        ``<block>_spread`` for each block; empty, and no evaluation, without weights.
    """
    names = names_of(targets)
    divisors = {} if counts is None else dict(zip(names, counts, strict=True))
    targets = [target for target in targets if target.options.spread_weight > 0]
    if not targets:
        return {}
    rotation = rotation.to(batch.graph.edge_vectors.device)
    graph = batch.graph._replace(edge_vectors=batch.graph.edge_vectors @ rotation.T)
    names = [spec.name for spec, _ in targets]
    atomic = potential(graph, names, raw=True)
    terms = {}
    for spec, options in targets:
        turned = rotate_components(spec, predicted[spec.name], rotation)
        difference = gather(spec, atomic[spec.name], graph) - turned
        if not spec.per_atom:
            sizes = batch.n_atoms[:, None] ** options.size_exponent
            difference = difference / sizes
        weights = options.block_weights or [1.0] * len(spec.blocks)
        for name, (_, part), weight in zip(
            block_names(spec), block_slices(spec), weights, strict=True
        ):
            factor = options.spread_weight * options.loss.weight * weight
            squares = difference[:, part].square()
            divisor = divisors.get(name, squares.numel())
            terms[f"{name}_spread"] = factor * squares.sum() / divisor / 2
    return terms

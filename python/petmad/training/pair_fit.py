"""Least squares for what pairs of atoms alone tell of a tensor, before training.

Ridge regression, one strength for each block, the one with the least error by
generalized cross-validation (Golub, Heath and Wahba, Technometrics 21, 215, 1979): no
validation structure is looked at. Functions of one pair of species share their unit, so
that those which hardly ever see a neighbor stay small.
"""

from collections.abc import Sequence

import torch

from petmad.data import Sample, collate
from petmad.model import EdgeGraph
from petmad.model.pair_terms import N_FUNCTIONS, PairBlock, PairTerms


STRENGTHS = 10.0 ** torch.arange(-8.0, 3.0, 0.5, dtype=torch.float64)
"""Tried, relative to the number of rows."""
NEGLIGIBLE = 1e-10
"""Part of the largest pair's columns below which those of a pair tell nothing."""


def pair_columns(
    terms: PairTerms, block: PairBlock, samples: Sequence[Sample], per_atom: bool
) -> torch.Tensor:
    """What each weight of a block would add to each label.

    Args:
        terms: of the target.
        block: one of its blocks.
        samples: whose labels are known.
        per_atom: whether labels belong to atoms.

    Returns:
        [n_rows, 2λ + 1, n_species² · N_FUNCTIONS] float64.
    """
    rows = []
    for sample in samples:
        graph = collate([sample]).graph
        columns = _columns_of_atoms(terms, block, graph)
        rows.append(columns if per_atom else columns.sum(0, keepdim=True))
    return torch.cat(rows).double()


def _columns_of_atoms(
    terms: PairTerms, block: PairBlock, graph: EdgeGraph
) -> torch.Tensor:
    """[n_atoms, 2λ + 1, n_species² · N_FUNCTIONS]."""
    radial, unit, pairs = terms.functions(graph)
    harmonics = block.harmonics(unit)
    n_atoms, n_pairs = len(graph.species), terms.n_species**2
    products = harmonics[:, :, None] * radial[:, None, :]
    columns = products.new_zeros(n_atoms * n_pairs, *products.shape[1:])
    columns.index_add_(0, graph.centers * n_pairs + pairs, products)
    columns = columns.reshape(n_atoms, n_pairs, -1, N_FUNCTIONS)
    return columns.transpose(1, 2).flatten(2)


def fit_block(
    columns: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Weights of the columns that tell the labels best.

    Args:
        columns: [n_rows, 2λ + 1, n_pairs · N_FUNCTIONS].
        labels: [n_rows, 2λ + 1].
        counts: [n_rows, n_species] atoms of each species where a composition is fitted
            beside (λ = 0), and what it can tell is left to it; else [n_rows, 0].

    Returns:
        [n_pairs · N_FUNCTIONS].
    """
    matrix, target = columns.flatten(0, 1), labels.flatten()
    n_fixed = 0
    if counts.shape[1] > 0:
        left, singular, _ = torch.linalg.svd(counts, full_matrices=False)
        basis = left[:, singular > 1e-10 * singular.max()]
        n_fixed = basis.shape[1]
        matrix = matrix - basis @ (basis.T @ matrix)
        target = target - basis @ (basis.T @ target)
    squares = matrix.square().mean(0).reshape(-1, N_FUNCTIONS).mean(1)
    sizes = squares.sqrt().repeat_interleave(N_FUNCTIONS)
    told = sizes > NEGLIGIBLE * max(float(sizes.max()), 1e-300)
    weights = torch.zeros_like(sizes)
    if told.any():
        scaled = matrix[:, told] / sizes[told]
        weights[told] = _ridge(scaled, target, n_fixed) / sizes[told]
    return weights


def _ridge(matrix: torch.Tensor, target: torch.Tensor, n_fixed: int) -> torch.Tensor:
    """Solution [n_columns] for the strength with the least cross-validated error."""
    n_rows = len(target)
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    squares = squares.clamp_min(0.0)
    projected = vectors.T @ (matrix.T @ target)
    norm = target.square().sum()
    best, least = torch.zeros_like(projected), float("inf")
    for strength in STRENGTHS * n_rows:
        solution = projected / (squares + strength)
        residual = norm - 2 * solution @ projected + (solution.square() * squares).sum()
        n_free = n_rows - n_fixed - float((squares / (squares + strength)).sum())
        error = float(residual.clamp_min(0.0)) / max(n_free, 1e-300) ** 2
        if n_free > 0 and error < least:
            best, least = solution, error
    return vectors @ best

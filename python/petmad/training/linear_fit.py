"""Ridge regression from sums over the data, so that its rows need not be kept.

Columns come in families (what pairs tell, what tokens tell), each with a strength of
its own; those with the least error by generalized cross-validation (Golub, Heath and
Wahba, Technometrics 21, 215, 1979) are chosen: no validation structure is looked at.
Columns that are known several times, in several orientations, enter by their means and,
weighed, by their scatter around it, which teaches a small spread over rotations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .baseline import RANK_TOLERANCE


STRENGTHS = 10.0 ** torch.arange(-8.0, 3.0, 0.5, dtype=torch.float64)
"""Of the first family, relative to the number of rows."""
RATIOS = 10.0 ** torch.arange(-4.0, 5.0, dtype=torch.float64)
"""Of a second family's strength to the first one's."""
NEGLIGIBLE = 1e-10
"""Part of a family's largest column below which a column tells nothing."""


class Family(NamedTuple):
    """Columns, side by side, that share a strength.

    Attributes:
        n_columns: of the family.
        n_joint: consecutive ones that share their unit, so that those which hardly ever
            differ from 0 stay small; 1 where each has its own.
    """

    n_columns: int
    n_joint: int


class Fit(NamedTuple):
    """Solution of a regression.

    Attributes:
        weights: [n_columns].
        fixed: [n_fixed] of the columns without a penalty.
        residual: mean square of what is left.
    """

    weights: torch.Tensor
    fixed: torch.Tensor
    residual: float


class Regression:
    """Sums over rows: of columns, of columns without a penalty, and of labels.

    Args:
        families: of the columns, in order.
        n_fixed: number of columns without a penalty.
    """

    def __init__(self, families: Sequence[Family], n_fixed: int) -> None:
        self.families = list(families)
        n = self.n_columns = sum(family.n_columns for family in families)
        self.n_fixed = n_fixed
        self.n_rows = 0
        size = n + n_fixed + 1
        self.products = torch.zeros(size, size, dtype=torch.float64)
        self.scatter = torch.zeros(n, n, dtype=torch.float64)

    def add(
        self, columns: torch.Tensor, fixed: torch.Tensor, labels: torch.Tensor
    ) -> None:
        """Add rows.

        Args:
            columns: [n_orientations, n_rows, n_columns] float64.
            fixed: [n_rows, n_fixed].
            labels: [n_rows].
        """
        mean = columns.mean(0)
        rows = torch.cat([mean, fixed, labels[:, None]], dim=1)
        self.products += rows.T @ rows
        scattered = (columns - mean).flatten(0, 1)
        self.scatter += scattered.T @ scattered / len(columns)
        self.n_rows += len(labels)

    def solve(self, scatter_weight: float = 1.0) -> Fit:
        """The fit with the least cross-validated error.

        Args:
            scatter_weight: of the mean square that scatters with the orientation,
                beside that of the mean over them.
        """
        n, stop = self.n_columns, self.n_columns + self.n_fixed
        among = self.products[n:stop, n:stop]
        inverse = torch.linalg.pinv(among, rtol=RANK_TOLERANCE, hermitian=True)
        beside = inverse @ self.products[n:stop]  # [n_fixed, all]
        left = self.products - self.products[:, n:stop] @ beside
        n_free = self.n_rows - int(torch.linalg.matrix_rank(among, hermitian=True))
        units = self._units(left.diagonal()[:n] / max(self.n_rows, 1))
        told = units > 0
        weights = torch.zeros(n, dtype=torch.float64)
        if told.any():
            chosen = torch.outer(units[told], units[told])
            weights[told] = units[told] * self._choose(
                left[:n, :n][told][:, told] * chosen,
                scatter_weight * self.scatter[told][:, told] * chosen,
                left[:n, -1][told] * units[told],
                float(left[-1, -1]),
                n_free,
                told,
            )
        fixed = beside[:, -1] - beside[:, :n] @ weights
        squares = (
            left[-1, -1]
            - 2 * weights @ left[:n, -1]
            + weights @ (left[:n, :n] @ weights)
        )
        residual = float(squares.clamp_min(0.0)) / max(self.n_rows, 1)
        return Fit(weights, fixed, residual)

    def _units(self, squares: torch.Tensor) -> torch.Tensor:
        """Inverse sizes [n_columns]; 0 for columns that tell nothing."""
        parts = squares.clamp_min(0.0).split([f.n_columns for f in self.families])
        units = []
        for family, part in zip(self.families, parts, strict=True):
            joint = part.reshape(-1, family.n_joint).mean(1)
            sizes = joint.sqrt().repeat_interleave(family.n_joint)
            told = sizes > NEGLIGIBLE * sizes.max().clamp_min(1e-300)
            units.append(torch.where(told, 1 / sizes, 0.0))
        return torch.cat(units)

    def _choose(
        self,
        squares: torch.Tensor,
        scatter: torch.Tensor,
        projected: torch.Tensor,
        norm: float,
        n_free: int,
        told: torch.Tensor,
    ) -> torch.Tensor:
        """Solution in units of the columns, over all strengths and their ratios."""
        second = torch.zeros(self.n_columns, dtype=torch.bool)
        second[self.families[0].n_columns :] = True
        second = second[told]
        several = bool(second.any()) and not bool(second.all())
        best, least = torch.zeros_like(projected), float("inf")
        for ratio in RATIOS if several else RATIOS[:1] ** 0:
            scales = torch.where(second, ratio**-0.5, 1.0).to(squares)
            both = (squares + scatter) * torch.outer(scales, scales)
            values, vectors = torch.linalg.eigh(both)
            values = values.clamp_min(0.0)
            turned = vectors * scales[:, None]
            shares = ((squares @ turned) * turned).sum(0)  # of the rows' means
            target = turned.T @ projected
            for strength in STRENGTHS * self.n_rows:
                solution = target / (values + strength)
                residual = norm - 2 * solution @ target + solution.square() @ values
                left = n_free - float((shares / (values + strength)).sum())
                error = float(residual.clamp_min(0.0)) / left**2 if left > 0 else least
                if error < least:
                    best, least = turned @ solution, error
        return best

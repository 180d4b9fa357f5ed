"""Tensors from scalars: the fixed stage between invariant numbers and tensors.

Any tensor of order λ that depends on vectors is a sum of scalars times *maximal
couplings* of λ of them (Domina, Bigi, Pegolo and Ceriotti, arXiv:2505.05404): the
symmetric traceless part of their outer product. A pseudotensor has one cross product in
each coupling. All couplings here are coordinates in an orthonormal basis of the
symmetric traceless tensors with components μ = -λ … λ, so λ = 1 is (y, z, x) and the
inverse of every change of basis is its transpose. Nothing here is learned.
"""

import functools
import math
from typing import Any, List, Tuple

import torch
from torch import nn


Block = Tuple[int, int]
"""Order λ, and parity: 1, or -1 for a pseudotensor. Inversion is parity · (-1)^λ."""


def _norm(order: int, m: int) -> float:
    """Component m of r coupled λ times with itself, over its part of the harmonic Q."""
    size = math.sqrt(math.factorial(order) / math.prod(range(1, 2 * order, 2)))
    size *= math.sqrt(math.factorial(order - abs(m)) * math.factorial(order + abs(m)))
    return size * (math.sqrt(2.0) if m else 1.0)


@functools.lru_cache
def ladder(order: int) -> torch.Tensor:
    """Coupling of order λ - 1 with a vector to order λ ≥ 1.

    It is the gradient of the solid harmonics, ∂_i T_λm = λ Σ_n C[m, n, i] T_(λ-1)n,
    whose coefficients are constants: with Q_λm = c_m + i s_m = r^λ P_λm e^(imφ) /
    (λ + m)!, ∂_z Q_λm = Q_(λ-1)m and (∂_x ± i ∂_y) Q_λm = ∓Q_(λ-1)(m±1).

    Returns:
        C [2λ + 1, 2λ - 1, 3 (xyz)] float64, with orthonormal rows; shared, constant.
    """
    matrix = torch.zeros(2 * order + 1, 2 * order - 1, 3, dtype=torch.float64)

    def put(m: int, n: int, axis: int, factor: float) -> None:
        if abs(n) < order:
            factor *= _norm(order, m) / (order * _norm(order - 1, n))
            matrix[order + m, order - 1 + n, axis] = factor

    put(0, 0, 2, 1.0)
    put(0, 1, 0, -1.0)
    put(0, -1, 1, -1.0)
    for m in range(1, order + 1):  # c_m sits at m, s_m at -m
        put(m, m, 2, 1.0)
        put(-m, -m, 2, 1.0)
        put(m, m - 1, 0, 0.5)
        put(m, m + 1, 0, -0.5)
        put(m, -m - 1, 1, -0.5)
        put(-m, -m - 1, 0, -0.5)
        put(-m, m - 1, 1, 0.5)
        put(-m, m + 1, 1, 0.5)
        if m > 1:  # s_0 is zero
            put(m, 1 - m, 1, -0.5)
            put(-m, 1 - m, 0, 0.5)
    return matrix


class LadderStep(nn.Module):
    """Couples tensors [..., 2λ - 1] and vectors [..., 3] to [..., 2λ + 1]."""

    def __init__(self, order: int) -> None:
        super().__init__()
        self.order = order
        rows = ladder(order).flatten(1).T.to(torch.get_default_dtype())
        self.register_buffer("rows", rows, persistent=False)

    def _apply(self, *args: Any, **kwargs: Any) -> "LadderStep":
        """Change dtype or device; the constants are rounded once, never twice."""
        super()._apply(*args, **kwargs)
        self.rows = ladder(self.order).flatten(1).T.to(self.rows)
        return self

    def forward(self, tensors: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """The maximal coupling."""
        return (tensors.unsqueeze(-1) * vectors.unsqueeze(-2)).flatten(-2) @ self.rows


class MaximalCoupling(nn.Module):
    """Couples vectors [..., 3] (xyz) to one block, [..., 2λ + 1].

    ``n_vectors`` of them: λ, or λ + 1 for a pseudotensor, whose first two are crossed;
    three for a pseudoscalar, their triple product. A scalar is 1, whatever it is given.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.order, self.parity = block
        self.n_vectors = self.order
        if self.parity < 0:
            self.n_vectors = self.order + 1 if self.order > 0 else 3
        self.steps = nn.ModuleList(LadderStep(n + 1) for n in range(self.order))

    def forward(self, vectors: List[torch.Tensor]) -> torch.Tensor:
        """The coupling; symmetric in all vectors that are not crossed."""
        first, used = vectors[0], 1
        if self.parity < 0:
            first, used = torch.linalg.cross(vectors[0], vectors[1]), 2
            if self.order == 0:
                return (first * vectors[2]).sum(-1, keepdim=True)
        tensors = torch.ones_like(first[..., :1])
        for i, step in enumerate(self.steps):
            if i == 0:
                tensors = step(tensors, first)
            else:
                tensors = step(tensors, vectors[used + i - 1])
        return tensors

    def harmonics(self, unit: torch.Tensor) -> torch.Tensor:
        """Y_λ of unit vectors [..., 3], each coupled with itself; proper blocks."""
        copies: List[torch.Tensor] = []
        for _ in range(max(self.order, 1)):
            copies.append(unit)
        return self.forward(copies)


def column_choices(block: Block) -> List[Tuple[int, ...]]:
    """Which of the vectors q_0, q_1, q_2 each element of a basis of a block couples.

    2λ + 1 elements (one for λ = 0) that span the block wherever vectors in general
    position do, and are λ + 1 (λ of a pseudotensor) independent ones in a plane.
    """
    order, parity = block
    if order == 0:
        return [(0, 1, 2)] if parity < 0 else [()]
    if parity > 0:
        if order == 1:
            return [(0,), (1,), (2,)]
        if order == 2:
            return [(0, 0), (1, 1), (0, 1), (0, 2), (1, 2)]
        powers = [(0,) * k + (1,) * (order - k) for k in range(order + 1)]
        return powers + [(0,) * k + (1,) * (order - 1 - k) + (2,) for k in range(order)]
    powers = [(0,) * k + (1,) * (order - 1 - k) for k in range(order)]
    pairs = [(0, 1), (0, 2)]
    return [pair + rest for pair in pairs for rest in powers] + [
        (1, 2) + (1,) * (order - 1)
    ]


class CoupledBasis(nn.Module):
    """Basis of a block from three vectors per atom; see :func:`column_choices`."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.coupling = MaximalCoupling(block)
        choices = column_choices(block)
        self.n_columns = len(choices)
        self.is_one = block == (0, 1)
        self.register_buffer(
            "choices", torch.tensor(choices, dtype=torch.int64).T, persistent=False
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """[n_atoms, 3 (vectors), 3 (xyz)] in, [n_atoms, n_columns, 2λ + 1] out."""
        if self.is_one:
            return torch.ones_like(vectors[:, :1, :1])
        chosen: List[torch.Tensor] = []
        for i in range(self.choices.shape[0]):
            chosen.append(vectors.index_select(1, self.choices[i]))
        return self.coupling(chosen)

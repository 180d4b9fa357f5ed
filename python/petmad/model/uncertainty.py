"""Uncertainty from last-layer features (LLPR), and the shallow ensemble around it.

With f the last-layer features summed over any group of atoms, L the Cholesky factor of
their covariance over the training set and m a calibrated multiplier, the standard
deviation of the group's prediction is m ‖L⁻¹ f‖. The vectors m L⁻¹ f_i of single atoms
add up before the norm is taken, so that ranks or groups can be joined afterwards.
Members of the ensemble are linear in f, hence sums over atoms themselves.

Everything is float64, whatever the dtype of the network: a covariance is nearly
singular.
"""

import torch
from torch import nn

from .config import PETConfig
from .readout import TargetSpec


LARGEST_REGULARIZER = 1e16


def factorize(covariance: torch.Tensor) -> torch.Tensor:
    """L Lᵀ = ½(C + Cᵀ) + λ with the smallest λ of 1e-20, 1e-19, ... that works.

    Args:
        covariance: [width, width].

    Returns:
        [width, width] float64, lower triangular.

    Raises:
        ValueError: none does.
    """
    matrix = covariance.to(torch.float64)
    matrix = 0.5 * (matrix + matrix.T)
    eye = torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    regularizer = 1e-20
    while regularizer < LARGEST_REGULARIZER:
        factor, failed = torch.linalg.cholesky_ex(matrix + regularizer * eye)
        if not failed:
            return factor
        regularizer *= 10.0
    raise ValueError(
        "the covariance of the uncertainty (LLPR) has no Cholesky factor; take the "
        "file as its training wrote it, or look for numbers that are not finite"
    )


class Uncertainty(nn.Module):
    """LLPR of one target.

    Args:
        config: hyperparameters.
        spec: the target; ``spec.n_members`` may be 0.

    Buffers: ``cholesky`` [width, width] lower triangular, ``multiplier`` m, and
    ``members`` [n_members · n_components, width], the last layers of the members;
    width is 2·R·d_head.
    """

    def __init__(self, config: PETConfig, spec: TargetSpec) -> None:
        super().__init__()
        width = 2 * config.n_readouts * config.d_head
        n_rows = spec.n_members * spec.n_components
        self.target: str = spec.name
        self.n_members: int = spec.n_members
        self.register_buffer("cholesky", torch.eye(width, dtype=torch.float64))
        self.register_buffer("multiplier", torch.ones((), dtype=torch.float64))
        self.register_buffer("members", torch.zeros(n_rows, width, dtype=torch.float64))

    def vectors(self, features: torch.Tensor) -> torch.Tensor:
        """M L⁻¹ f of each atom, [n_owned, width], from f [n_owned, width].

        The norm of a row is the uncertainty of that atom; the norm of a sum of rows is
        the uncertainty of those atoms' sum. In the target's unit.
        """
        features = features.detach().to(torch.float64).t()
        whitened = torch.linalg.solve_triangular(self.cholesky, features, upper=False)
        return self.multiplier * whitened.t()

    def ensemble(
        self, features: torch.Tensor, prediction: torch.Tensor
    ) -> torch.Tensor:
        """Predictions of the members for each atom, [n_owned, n_members·n_components].

        They are shifted so that their mean is the model's own ``prediction``
        [n_owned, n_components].
        """
        n_owned, n_components = prediction.shape[0], prediction.shape[1]
        raw = features.detach().to(torch.float64) @ self.members.t()
        raw = raw.reshape(n_owned, self.n_members, n_components)
        centered = raw - raw.mean(dim=1, keepdim=True)
        centered = centered + prediction.detach()[:, None, :]
        return centered.reshape(n_owned, self.n_members * n_components)

"""Mean absolute and root mean square errors, accumulated over batches and ranks."""

import math

import torch

from .loss import Labels, per_atom_residuals


MILLI = 1000.0
UNITS = {"energy": "meV/atom", "forces": "meV/Å", "strain": "meV/atom"}
"""Unit of each error; strain is the strain gradient per atom."""


class Errors:
    """Running errors of energies [meV/atom], forces [meV/Å] and strain [meV/atom].

    Per quantity: number of components, sum of absolute and of squared errors.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums = torch.zeros(len(UNITS), 3, dtype=torch.float64)

    def add(self, predicted: Labels, targets: Labels, n_atoms: torch.Tensor) -> None:
        """Add a batch, in eV; unknown (NaN) targets are left out.

        Of strain gradients the symmetric part counts, which is what a stress shows.
        """
        residuals = per_atom_residuals(predicted, targets, n_atoms)
        strain = residuals.strain_gradients
        residuals = residuals._replace(
            strain_gradients=0.5 * (strain + strain.transpose(1, 2))
        )
        for i, residual in enumerate(residuals):
            known = residual.detach()[~torch.isnan(targets[i])] * MILLI
            self.sums[i] += torch.stack(
                [
                    known.new_tensor(known.numel()),
                    known.abs().sum(),
                    known.square().sum(),
                ]
            ).to(self.sums)

    def compute(self) -> dict[str, float]:
        """``<name>_mae`` and ``<name>_rmse`` of what is known, and products.

        Products over energy and forces, ``mae_prod`` and ``rmse_prod``, rank models.
        """
        results: dict[str, float] = {}
        for name, (count, absolute, squared) in zip(
            UNITS, self.sums.tolist(), strict=True
        ):
            if count > 0:
                results[f"{name}_mae"] = absolute / count
                results[f"{name}_rmse"] = (squared / count) ** 0.5
        for kind in ("mae", "rmse"):
            known = (
                results.get(f"{name}_{kind}", 1.0) for name in ("energy", "forces")
            )
            results[f"{kind}_prod"] = math.prod(known)
        return results

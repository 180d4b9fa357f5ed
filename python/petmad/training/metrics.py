"""Mean absolute and root mean square errors, accumulated over batches and ranks."""

import math
from collections.abc import Sequence

import torch

from .loss import Labels, per_atom_residuals


MILLI = 1000.0
UNITS = {"energy": "meV/atom", "forces": "meV/Å", "strain": "meV/atom"}
"""Unit of each error; strain is the strain gradient per atom."""


class Errors:
    """Running errors of energies [meV/atom], forces [meV/Å] and strain [meV/atom].

    Per quantity: number of components, sum of absolute and of squared errors; first of
    all structures, then of those of each level of theory, where there are several.

    Args:
        levels: names of the levels.
    """

    def __init__(self, levels: Sequence[str] = ()) -> None:
        self.levels = list(levels) if len(levels) > 1 else []
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.sums = torch.zeros(
            1 + len(self.levels), len(UNITS), 3, dtype=torch.float64
        )

    def add(
        self,
        predicted: Labels,
        targets: Labels,
        n_atoms: torch.Tensor,
        levels: torch.Tensor | None = None,
    ) -> None:
        """Add a batch, in eV; unknown (NaN) targets are left out.

        Of strain gradients the symmetric part counts, which is what a stress shows.

        Args:
            predicted: by the model.
            targets: true.
            n_atoms: [n_structures].
            levels: [n_structures] index, needed where there are several.
        """
        residuals = per_atom_residuals(predicted, targets, n_atoms)
        strain = residuals.strain_gradients
        residuals = residuals._replace(
            strain_gradients=0.5 * (strain + strain.transpose(1, 2))
        )
        self._add_to(0, residuals, targets)
        for i in range(len(self.levels)):
            chosen = levels == i
            of_atoms = torch.repeat_interleave(chosen, n_atoms)
            masks = (chosen, of_atoms, chosen)
            self._add_to(
                1 + i,
                Labels(*(r[m] for r, m in zip(residuals, masks, strict=True))),
                Labels(*(t[m] for t, m in zip(targets, masks, strict=True))),
            )

    def _add_to(self, row: int, residuals: Labels, targets: Labels) -> None:
        for i, residual in enumerate(residuals):
            known = residual.detach()[~torch.isnan(targets[i])] * MILLI
            self.sums[row, i] += torch.stack(
                [
                    known.new_tensor(known.numel()),
                    known.abs().sum(),
                    known.square().sum(),
                ]
            ).to(self.sums)

    def compute(self) -> dict[str, float]:
        """``<name>_mae`` and ``<name>_rmse`` of what is known, and products.

        Products over energy and forces, ``mae_prod`` and ``rmse_prod``, rank models.
        Errors of a level are called ``<level>:<name>_mae``.
        """
        results: dict[str, float] = {}
        prefixes = ["", *(f"{level}:" for level in self.levels)]
        for prefix, rows in zip(prefixes, self.sums.tolist(), strict=True):
            for name, (count, absolute, squared) in zip(UNITS, rows, strict=True):
                if count > 0:
                    results[f"{prefix}{name}_mae"] = absolute / count
                    results[f"{prefix}{name}_rmse"] = (squared / count) ** 0.5
        for kind in ("mae", "rmse"):
            known = (
                results.get(f"{name}_{kind}", 1.0) for name in ("energy", "forces")
            )
            results[f"{kind}_prod"] = math.prod(known)
        return results

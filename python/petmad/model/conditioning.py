"""Total charge and spin multiplicity of a structure as an input of the network."""

import torch
from torch import nn


class SystemConditioning(nn.Module):
    """Embeds total charge and spin multiplicity of a structure into its node states."""

    def __init__(
        self, d_node: int, max_charge: int, max_spin_multiplicity: int
    ) -> None:
        super().__init__()
        self.max_charge = max_charge
        self.max_spin_multiplicity = max_spin_multiplicity
        self.charge_embedding = nn.Embedding(2 * max_charge + 1, d_node)
        self.spin_multiplicity_embedding = nn.Embedding(max_spin_multiplicity, d_node)
        self.project = nn.Sequential(
            nn.Linear(2 * d_node, d_node), nn.SiLU(), nn.Linear(d_node, d_node)
        )
        nn.init.zeros_(self.project[2].weight)
        nn.init.zeros_(self.project[2].bias)

    def check(self, charges: torch.Tensor, spin_multiplicities: torch.Tensor) -> None:
        """See whether :meth:`forward` knows these.

        Raises:
            ValueError: a charge or multiplicity is outside the range of the model.
        """
        wrong = charges[charges.abs() > self.max_charge]
        if wrong.numel() > 0:
            raise ValueError(
                f"`charge` must be within ±{self.max_charge} for this model, "
                f"got {int(wrong[0])}"
            )
        spins = spin_multiplicities
        wrong = spins[(spins < 1) | (spins > self.max_spin_multiplicity)]
        if wrong.numel() > 0:
            raise ValueError(
                f"`spin` (2S + 1) must be 1 to {self.max_spin_multiplicity} for this "
                f"model, got {int(wrong[0])}"
            )

    def forward(
        self, charges: torch.Tensor, spin_multiplicities: torch.Tensor
    ) -> torch.Tensor:
        """[n_structures, d_node]."""
        both = torch.cat(
            [
                self.charge_embedding(charges + self.max_charge),
                self.spin_multiplicity_embedding(spin_multiplicities - 1),
            ],
            dim=1,
        )
        return self.project(both)

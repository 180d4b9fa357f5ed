"""What a center may know of others: their cutoffs, and messages of reversed edges.

In one process that is plain indexing, done here. A domain-decomposed run swaps this
module for one that also asks other ranks (``petmad.export``); the network does not
notice.
"""

from typing import Tuple

import torch
from torch import nn


class LocalHalo(nn.Module):
    """All centers are here: indexing only; ``halo``, a host's exchange, is ignored."""

    def ghost_values(self, owned: torch.Tensor, halo: int) -> torch.Tensor:
        """Values of all atoms [n_total, ...] from the owned ones' [n_owned, ...]."""
        return owned

    def live_edges(
        self, keep: torch.Tensor, reverse_edges: torch.Tensor, halo: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Edges kept from both of their ends.

        Args:
            keep: [n_edges] bool, the center's own decision.
            reverse_edges: [n_edges] index of the reversed edge.
            halo: handle of the host's exchange, 0 for none.

        Returns:
            Indices of the kept edges [n_kept], in order, and the reversed edge of each
            counted among the kept ones [n_kept].
        """
        return self.local_live_edges(keep, reverse_edges)

    def local_live_edges(
        self, keep: torch.Tensor, reverse_edges: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """:meth:`live_edges` where every partner is here."""
        has_partner = reverse_edges >= 0
        partner = torch.clamp(reverse_edges, min=0)
        both = keep & has_partner & keep[partner]
        kept = torch.nonzero(both).squeeze(1)
        new_index = torch.cumsum(both.to(torch.int64), dim=0) - 1
        return kept, new_index[partner[kept]]

    def reverse(
        self, rows: torch.Tensor, reverse_edges: torch.Tensor, halo: int
    ) -> torch.Tensor:
        """Row of each kept edge's reversed edge, [n_kept, width]; its own adjoint."""
        return rows.index_select(0, reverse_edges)

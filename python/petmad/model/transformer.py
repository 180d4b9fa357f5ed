"""The transformer layer of PET on packed rows: one per center and edge, no padding.

Rows are ordered centers first, then edges sorted by center. Only the attention itself,
which needs every token of an atom beside every other, spreads the rows into a padded
array.
"""

import math
from typing import NamedTuple, Tuple

import torch
from torch import nn

from . import constants


class TokenLayout(NamedTuple):
    """Where each packed row sits among its atom's tokens.

    The first two serve attention that walks through the packed rows; the others spread
    them into padded arrays, and are empty where nobody reads them.

    Attributes:
        starts: [n_centers + 1] first edge of each center, then the number of edges.
        log_weights: [n_edges] logarithm of the cutoff weight of each edge.
        rows: [n_centers, n_tokens] packed row of each token slot; unused slots hold 0.
        slots: [n_rows] flat slot (center * n_tokens + token) of each packed row.
        bias: [n_centers, 1, 1, n_tokens] logarithm of the cutoff weight of each token.
    """

    starts: torch.Tensor
    log_weights: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor
    bias: torch.Tensor


class TokenSlots(NamedTuple):
    """What of a :class:`TokenLayout` depends on counts alone; see there."""

    starts: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor


def token_slots(centers: torch.Tensor, n_centers: int) -> TokenSlots:
    """Slots of each center's tokens: itself first, then its edges in list order.

    Args:
        centers: [n_edges] ascending.
        n_centers: number of centers.
    """
    n_edges = centers.shape[0]
    device = centers.device
    counts = torch.bincount(centers, minlength=n_centers)
    n_tokens = 1
    if n_edges > 0:
        n_tokens = int(counts.max()) + 1
    ends = torch.cumsum(counts, dim=0)
    starts = ends - counts
    token = torch.arange(n_edges, device=device) - starts[centers] + 1
    slots = torch.cat(
        [torch.arange(n_centers, device=device) * n_tokens, centers * n_tokens + token]
    )
    n_rows = n_centers + n_edges
    rows = torch.zeros(n_centers * n_tokens, dtype=torch.int64, device=device)
    rows[slots] = torch.arange(n_rows, device=device)
    return TokenSlots(
        torch.cat([starts, ends[-1:]]), rows.reshape(n_centers, n_tokens), slots
    )


def weigh_slots(slots: TokenSlots, weights: torch.Tensor) -> TokenLayout:
    """The layout of these slots.

    Args:
        slots: see :func:`token_slots`.
        weights: [n_edges] cutoff factors, in the dtype of the network.
    """
    n_centers, n_tokens = slots.rows.shape
    log_weights = torch.log(torch.clamp(weights, min=constants.WEIGHT_FLOOR))
    of_rows = torch.cat([log_weights.new_zeros(n_centers), log_weights])
    bias = torch.full(
        [n_centers * n_tokens],
        math.log(constants.WEIGHT_FLOOR),
        dtype=weights.dtype,
        device=weights.device,
    ).index_put([slots.slots], of_rows)
    return TokenLayout(
        slots.starts,
        log_weights,
        slots.rows,
        slots.slots,
        bias.reshape(n_centers, 1, 1, n_tokens),
    )


def token_layout(
    centers: torch.Tensor, weights: torch.Tensor, n_centers: int
) -> TokenLayout:
    """:func:`token_slots` with their weights, see :func:`weigh_slots`."""
    return weigh_slots(token_slots(centers, n_centers), weights)


class PaddedTokens(nn.Module):
    """:func:`token_layout` as a module, for an export to swap; it has no weights."""

    def forward(
        self, centers: torch.Tensor, weights: torch.Tensor, n_centers: int
    ) -> TokenLayout:
        """See :func:`token_layout`."""
        return token_layout(centers, weights, n_centers)


class Attention(nn.Module):
    """Multi-head attention among the tokens of an atom, biased by the key's cutoff."""

    def __init__(self, d_pet: int, num_heads: int, temperature: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = 1.0 / (math.sqrt(d_pet // num_heads) * temperature)
        self.input_linear = nn.Linear(d_pet, 3 * d_pet)
        self.output_linear = nn.Linear(d_pet, d_pet)

    def forward(self, rows: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
        """[n_rows, d_pet] in, [n_rows, d_pet] out."""
        n_centers, n_tokens = layout.rows.shape
        d_pet = rows.shape[1]
        qkv = self.input_linear(rows).index_select(0, layout.rows.flatten())
        qkv = qkv.reshape(
            n_centers, n_tokens, 3, self.num_heads, d_pet // self.num_heads
        )
        # unbind, split and index_select have backwards without zero-filled copies
        qkv = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.matmul(qkv[0] * self.scale, qkv[1].transpose(2, 3)) + layout.bias
        mixed = torch.matmul(torch.softmax(scores, dim=-1), qkv[2])
        mixed = mixed.transpose(1, 2).reshape(n_centers * n_tokens, d_pet)
        return self.output_linear(mixed.index_select(0, layout.slots))


class FeedForward(nn.Module):
    """MLP of a transformer layer: SwiGLU (value first, plain sigmoid gate) or SiLU."""

    def __init__(self, width: int, inner_width: int, activation: str) -> None:
        super().__init__()
        self.gated = activation == "SwiGLU"
        self.w_in = nn.Linear(width, inner_width * (2 if self.gated else 1))
        self.w_out = nn.Linear(inner_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n_rows, width] in, the same out."""
        x = self.w_in(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            x = value * torch.sigmoid(gate)
        else:
            x = nn.functional.silu(x)
        return self.w_out(x)


def make_norm(kind: str, width: int) -> nn.Module:
    """RMSNorm, its epsilon the dtype's as upstream has it, or LayerNorm (1e-5)."""
    return nn.RMSNorm(width) if kind == "RMSNorm" else nn.LayerNorm(width)


class TransformerLayer(nn.Module):
    """One layer: attention and MLP on the tokens, and the update of the node state.

    With ``d_node != d_pet`` (expanded) the node state is contracted to a token and the
    token's change expanded back. Without, a PreLN layer replaces the node state by the
    attention output alone, dropping its residual: a quirk of upstream, kept because
    weights depend on it.
    """

    def __init__(
        self,
        d_pet: int,
        d_node: int,
        d_feedforward: int,
        num_heads: int,
        temperature: float,
        normalization: str,
        activation: str,
        transformer_type: str,
    ) -> None:
        super().__init__()
        self.pre_norm = transformer_type == "PreLN"
        self.attention = Attention(d_pet, num_heads, temperature)
        self.norm_attention = make_norm(normalization, d_pet)
        self.norm_mlp = make_norm(normalization, d_pet)
        self.mlp = FeedForward(d_pet, d_feedforward, activation)
        if d_node != d_pet:  # expanded
            self.center_contraction = nn.Linear(d_node, d_pet)
            self.center_expansion = nn.Linear(d_pet, d_node)
            self.norm_center_features = make_norm(normalization, d_node)
            self.center_mlp = FeedForward(d_node, 2 * d_node, activation)
        else:
            self.center_contraction = None
            self.center_expansion = None
            self.norm_center_features = None
            self.center_mlp = None

    def forward(
        self, nodes: torch.Tensor, tokens: torch.Tensor, layout: TokenLayout
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Node states [n_centers, d_node] and edge tokens [n_edges, d_pet], updated."""
        n_centers, n_edges = nodes.shape[0], tokens.shape[0]
        contracted = nodes
        if self.center_contraction is not None:
            contracted = self.center_contraction(nodes)
        rows = torch.cat([contracted, tokens])
        if self.pre_norm:
            attended = self.attention(self.norm_attention(rows), layout)
            center, change = attended.split([n_centers, n_edges])
            tokens = tokens + change
            tokens = tokens + self.mlp(self.norm_mlp(tokens))
        else:
            rows = self.norm_attention(rows + self.attention(rows, layout))
            rows = self.norm_mlp(rows + self.mlp(rows))
            center, tokens = rows.split([n_centers, n_edges])
        if (
            self.center_expansion is not None
            and self.center_mlp is not None
            and self.norm_center_features is not None
        ):
            nodes = nodes + self.center_expansion(center)
            return nodes + self.center_mlp(self.norm_center_features(nodes)), tokens
        return center, tokens

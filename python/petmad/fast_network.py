"""The exported network on fast operators: same numbers, first derivatives only.

:func:`make_fast` swaps parts of a frozen network for modules that call the compiled
operators of ``petmad`` on a CPU and on a GPU that this build has kernels for, and the
plain module, which each of them carries, elsewhere. What depends on species alone is
folded into tables on the way.
"""

from typing import List, Tuple

import torch
from torch import nn

from .fast_rows import FastMLP, NormWeights, has_operators, runs_gpu_kernels
from .model import PETConfig, Potential, constants
from .model.cutoff import OwnCutoffs, grid_probes
from .model.pet import GNNLayer
from .model.readout import Readout
from .model.transformer import TokenLayout, TransformerLayer, token_layout


class FastCutoffs(nn.Module):
    """:class:`petmad.model.cutoff.OwnCutoffs`, center by center."""

    def __init__(self, plain: OwnCutoffs) -> None:
        super().__init__()
        self.plain = plain
        self.register_buffer("probes", grid_probes(plain.cutoff, plain.width))

    def forward(
        self, distances: torch.Tensor, centers: torch.Tensor, n_centers: int
    ) -> torch.Tensor:
        """[n_centers] Å."""
        plain = self.plain
        if not (plain.is_adaptive and has_operators(distances)):
            return plain(distances, centers, n_centers)
        if plain.use_solver:
            return torch.ops.petmad.adaptive_cutoffs_solver(
                distances,
                centers,
                n_centers,
                plain.cutoff,
                plain.n_neighbors,
                plain.width,
                constants.SOLVER_ITERATIONS,
                constants.SLOPE_FLOOR,
            )
        return torch.ops.petmad.adaptive_cutoffs_grid(
            distances,
            centers,
            n_centers,
            plain.cutoff,
            self.probes,
            plain.n_neighbors,
            plain.width,
            constants.GRID_FLOOR,
        )


class PlannedMemory(nn.Module):
    """Chooses what the layers keep, see ``memory_plan.h``."""

    def __init__(self, sizes: List[int]) -> None:
        super().__init__()
        self.sizes: List[int] = sizes

    def forward(self, n_nodes: int, n_edges: int, n_raw: int) -> None:
        """See :class:`petmad.model.pet.KeepAll`."""
        torch.ops.petmad.plan_evaluation(self.sizes, [n_nodes, n_raw, n_edges])


class RaggedTokens(nn.Module):
    """The layout without its padded arrays, which the operators do not read."""

    def forward(
        self, centers: torch.Tensor, weights: torch.Tensor, n_centers: int
    ) -> TokenLayout:
        """See :func:`petmad.model.transformer.token_layout`."""
        if not has_operators(weights):
            return token_layout(centers, weights, n_centers)
        nothing = weights.new_zeros(0)
        return TokenLayout(
            torch.ops.petmad.edge_starts(centers, n_centers),
            torch.log(torch.clamp(weights, min=constants.WEIGHT_FLOOR)),
            nothing,
            nothing,
            nothing,
        )


class Pair(nn.Module):
    """Rows and reversed rows as they are: the next step has the norm over both."""

    def forward(
        self, rows: torch.Tensor, reverse: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Both, unchanged."""
        return rows, reverse


class FastCombination(nn.Module):
    """:class:`petmad.model.pet.Combination` of a :class:`Pair`, norm included."""

    def __init__(self, norm: nn.LayerNorm, plain: nn.Sequential) -> None:
        super().__init__()
        self.norm = NormWeights(norm, plain[0].weight)
        self.plain_norm = norm
        self.first, self.second = plain[0], plain[2]

    def forward(
        self,
        messages: torch.Tensor,
        rows: torch.Tensor,
        joined: Tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """New messages [n_edges, d_pet]."""
        if not has_operators(rows):
            inner = self.first(self.plain_norm(joined[0], joined[1]))
            return messages + rows + self.second(nn.functional.silu(inner))
        return torch.ops.petmad.combine(
            messages,
            joined[0],
            joined[1],
            self.norm.name,
            self.norm.gain,
            self.norm.bias,
            self.norm.epsilon,
            self.first.weight,
            self.first.bias,
            self.second.weight,
            self.second.bias,
        )


class FastSumOnCenters(nn.Module):
    """:class:`petmad.model.readout.SumOnCenters`, on GPUs in a fixed order."""

    def forward(
        self, base: torch.Tensor, centers: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Base [n_centers, w] + the rows [n_edges, w] of each center."""
        if not runs_gpu_kernels(rows):
            return base.index_add(0, centers, rows)
        starts = torch.ops.petmad.edge_starts(centers, base.shape[0])
        return torch.ops.petmad.sum_by_center(rows, rows.new_zeros(0), starts, base)


class TransformerWeights(nn.Module):
    """Weights of a transformer layer as the operator ``gnn_layer`` wants them."""

    def __init__(self, plain: TransformerLayer) -> None:
        super().__init__()
        self.plain = plain
        like = plain.attention.input_linear.weight
        self.norm_attention = NormWeights(plain.norm_attention, like)
        self.norm_mlp = NormWeights(plain.norm_mlp, like)
        self.norm_center = NormWeights(plain.norm_center_features, like)

    def forward(self) -> List[torch.Tensor]:
        """12 of them, or 22 where the node state is wider than a token."""
        plain = self.plain
        found = [
            self.norm_attention.gain,
            self.norm_attention.bias,
            plain.attention.input_linear.weight,
            plain.attention.input_linear.bias,
            plain.attention.output_linear.weight,
            plain.attention.output_linear.bias,
            self.norm_mlp.gain,
            self.norm_mlp.bias,
            plain.mlp.w_in.weight,
            plain.mlp.w_in.bias,
            plain.mlp.w_out.weight,
            plain.mlp.w_out.bias,
        ]
        if (
            plain.center_contraction is not None
            and plain.center_expansion is not None
            and plain.center_mlp is not None
        ):
            found = found + [  # noqa: RUF005, TorchScript has no starred lists
                plain.center_contraction.weight,
                plain.center_contraction.bias,
                plain.center_expansion.weight,
                plain.center_expansion.bias,
                self.norm_center.gain,
                self.norm_center.bias,
                plain.center_mlp.w_in.weight,
                plain.center_mlp.w_in.bias,
                plain.center_mlp.w_out.weight,
                plain.center_mlp.w_out.bias,
            ]
        return found


class FastGNNLayer(nn.Module):
    """:class:`petmad.model.pet.GNNLayer` as one operator, with embeddings folded."""

    def __init__(self, plain: GNNLayer, first_messages: nn.Embedding) -> None:
        super().__init__()
        self.plain = plain
        self.is_first = plain.neighbor_embedder is None
        first_layer = plain.trans.layers[0]
        self.pre_norm = first_layer.pre_norm
        self.gated = first_layer.mlp.gated
        self.n_heads = first_layer.attention.num_heads
        self.scale = first_layer.attention.scale
        self.layers = nn.ModuleList(
            TransformerWeights(layer) for layer in plain.trans.layers
        )
        inner, outer = plain.compress[0], plain.compress[2]
        dtype = inner.weight.dtype
        d_pet = outer.weight.shape[0]
        blocks = inner.weight.double().split(d_pet, dim=1)
        embedder = plain.edge_embedder
        table = first_messages if self.is_first else plain.neighbor_embedder
        constant = blocks[0] @ embedder.bias.double() + inner.bias.double()
        constants_of_species = table.weight.double() @ blocks[1].T + constant
        w_message = blocks[-1][:, : 0 if self.is_first else d_pet]
        geometry = (blocks[0] @ embedder.weight.double()).T
        self.norm_name = self.layers[0].norm_mlp.name
        self.epsilon = self.layers[0].norm_mlp.epsilon
        self.register_buffer("table", constants_of_species.to(dtype).contiguous())
        self.register_buffer("w_geometry", geometry.to(dtype).contiguous())
        self.register_buffer("w_message", w_message.to(dtype).contiguous())
        self.register_buffer("w_out", outer.weight.detach())
        self.register_buffer("b_out", outer.bias.detach())

    def forward(
        self,
        nodes: torch.Tensor,
        messages: torch.Tensor,
        geometry: torch.Tensor,
        neighbor_species: torch.Tensor,
        layout: TokenLayout,
    ) -> List[torch.Tensor]:
        """Updated node states [n_nodes, d_node] and edge output [n_edges, d_pet]."""
        if not has_operators(geometry):
            return self.plain(nodes, messages, geometry, neighbor_species, layout)
        if self.is_first:  # its messages are in the table; a view would keep them all
            messages = messages.new_zeros([messages.shape[0], 0])
        weights: List[torch.Tensor] = []
        for layer in self.layers:
            weights = weights + layer()
        nodes, tokens = torch.ops.petmad.gnn_layer(
            nodes,
            messages,
            geometry,
            neighbor_species,
            layout.log_weights,
            layout.starts,
            [self.table, self.w_geometry, self.w_message, self.w_out, self.b_out],
            weights,
            self.norm_name,
            self.epsilon,
            self.pre_norm,
            self.gated,
            self.n_heads,
            self.scale,
        )
        return [nodes, tokens]


def network_sizes(config: PETConfig, dtype: torch.dtype) -> List[int]:
    """As ``plan_evaluation`` and ``memory_needs`` want them, see ``memory_plan.h``."""
    return [
        config.d_pet,
        config.d_node,
        config.d_feedforward,
        config.d_head,
        config.num_heads,
        config.num_gnn_layers,
        config.num_attention_layers,
        dtype.itemsize,
        int(config.activation == "SwiGLU"),
    ]


def make_fast(potential: Potential) -> None:
    """Swap the parts of a frozen potential, in place, for those on fast operators."""
    network = potential.network
    network.own_cutoffs = FastCutoffs(network.own_cutoffs)
    network.tokens = RaggedTokens()
    dtype = network.edge_embedder.weight.dtype
    network.memory = PlannedMemory(network_sizes(potential.config, dtype))
    network.gnn_layers = nn.ModuleList(
        FastGNNLayer(layer, network.edge_embedder) for layer in network.gnn_layers
    )
    norms, mlps = network.combination_norms, network.combination_mlps
    network.combination_mlps = nn.ModuleList(
        FastCombination(norm, mlp) for norm, mlp in zip(norms, mlps, strict=True)
    )
    network.combination_norms = nn.ModuleList(Pair() for _ in norms)
    for readout in list(potential.readouts.modules()):
        if isinstance(readout, Readout):
            readout.node_heads = _fast_heads(readout.node_heads)
            readout.edge_heads = _fast_heads(readout.edge_heads)
            readout.on_centers = FastSumOnCenters()


def _fast_heads(heads: nn.ModuleList) -> nn.ModuleList:
    return nn.ModuleList(
        FastMLP(None, (head[0], head[2]), "SiLU", activate_output=True)
        for head in heads
    )

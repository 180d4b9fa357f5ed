"""PET, the Point Edge Transformer: from species and edge vectors to features.

Source: Pozdnyakov and Ceriotti, NeurIPS 2023 (arXiv:2305.19302), and the current form
of the architecture in metatrain (``pet``, checkpoint version 16), whose numbers this
reproduces.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import nn

from . import constants
from .conditioning import SystemConditioning
from .config import PETConfig
from .cutoff import OwnCutoffs, cutoff_weights
from .graph import EdgeGraph
from .halo import LocalHalo
from .rings import Rings, find_rings, first, one_ring
from .transformer import PaddedTokens, TokenLayout, TransformerLayer


class Features(NamedTuple):
    """Output of the network.

    Attributes:
        nodes: per readout layer [n_owned, d_node].
        edges: per readout layer [n_kept, d_pet].
        weights: [n_kept] cutoff factor of each kept edge.
        kept_centers: [n_kept] center of each kept edge.
        kept: [n_kept] index of each kept edge in the raw list.
        cutoffs: [n_owned] Å, each atom's own cutoff.
        rings: [n_owned], with recomputed ghosts [n_total]; see :class:`Rings`.
        layer_sizes: nodes and edges that each layer evaluated; empty where none was.
    """

    nodes: List[torch.Tensor]
    edges: List[torch.Tensor]
    weights: torch.Tensor
    kept_centers: torch.Tensor
    kept: torch.Tensor
    cutoffs: torch.Tensor
    rings: torch.Tensor
    layer_sizes: List[List[int]]


class KeptEdges(NamedTuple):
    """Edges within their adaptive cutoff, in the order of the layers' rows.

    Attributes:
        kept: [n_kept] index of each in the raw list.
        geometry: [n_kept, 4] vector and length [Å], in the dtype of the network.
        weights: [n_kept] cutoff factor, likewise.
        neighbor_species: [n_kept].
    """

    kept: torch.Tensor
    geometry: torch.Tensor
    weights: torch.Tensor
    neighbor_species: torch.Tensor


class Transformer(nn.Module):
    """The transformer layers of one GNN layer, in sequence."""

    def __init__(self, config: PETConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.d_pet,
                config.d_node,
                config.d_feedforward,
                config.num_heads,
                config.attention_temperature,
                config.normalization,
                config.activation,
                config.transformer_type,
            )
            for _ in range(config.num_attention_layers)
        )


class JoinedNorm(nn.LayerNorm):
    """Norm over the rows of an edge and of its reversed one, beside each other."""

    def forward(self, rows: torch.Tensor, reverse: torch.Tensor) -> torch.Tensor:
        """Both [n_edges, d_pet]; [n_edges, 2 d_pet] out."""
        return nn.functional.layer_norm(
            torch.cat([rows, reverse], dim=1),
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
        )


class Combination(nn.Sequential):
    """What an edge's message becomes once both of its directions have spoken."""

    def forward(
        self, messages: torch.Tensor, rows: torch.Tensor, joined: torch.Tensor
    ) -> torch.Tensor:
        """``messages + rows + mlp(joined)``, [n_edges, d_pet]."""
        for module in self:
            joined = module(joined)
        return messages + rows + joined


class GNNLayer(nn.Module):
    """Edge tokens from geometry, species and messages, then the transformer layers."""

    def __init__(self, config: PETConfig, n_species: int, is_first: bool) -> None:
        super().__init__()
        d_pet = config.d_pet
        self.trans = Transformer(config)
        self.edge_embedder = nn.Linear(4, d_pet)
        self.neighbor_embedder = None if is_first else nn.Embedding(n_species, d_pet)
        self.compress = nn.Sequential(
            nn.Linear((2 if is_first else 3) * d_pet, d_pet),
            nn.SiLU(),
            nn.Linear(d_pet, d_pet),
        )

    def forward(
        self,
        nodes: torch.Tensor,
        messages: torch.Tensor,
        geometry: torch.Tensor,
        neighbor_species: torch.Tensor,
        layout: TokenLayout,
    ) -> List[torch.Tensor]:
        """Updated node states [n_owned, d_node] and edge output [n_kept, d_pet]."""
        tokens = self.compress[2](
            self.compress[1](self.compressed(messages, geometry, neighbor_species))
        )
        for layer in self.trans.layers:
            nodes, tokens = layer(nodes, tokens, layout)
        return [nodes, tokens]

    def compressed(
        self,
        messages: torch.Tensor,
        geometry: torch.Tensor,
        neighbor_species: torch.Tensor,
    ) -> torch.Tensor:
        """Of embedded geometry, species and messages side by side, [n_kept, d_pet].

        A product with each in turn: those of the embeddings are folded into one with
        four numbers and into a table of species, and nothing is copied together.
        """
        inner, embedder = self.compress[0], self.edge_embedder
        blocks = inner.weight.split(messages.shape[1], dim=1)
        constant = nn.functional.linear(embedder.bias, blocks[0], inner.bias)
        summed = nn.functional.linear(geometry, blocks[0] @ embedder.weight, constant)
        if self.neighbor_embedder is not None:
            table = nn.functional.linear(self.neighbor_embedder.weight, blocks[1])
            summed = summed + nn.functional.embedding(neighbor_species, table)
        return summed + nn.functional.linear(messages, blocks[-1])


class KeepAll(nn.Module):
    """Plans nothing; an export swaps it for what bounds the memory of a step."""

    def forward(self, n_nodes: int, n_edges: int, n_raw: int) -> None:
        """Told how many rows the layers evaluate, and how long the raw list is."""


class PET(nn.Module):
    """The network: scriptable, differentiable twice, of an :class:`EdgeGraph`."""

    def __init__(self, config: PETConfig, n_species: int) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.cutoff_function = config.cutoff_function
        self.cutoff_width = config.cutoff_width
        self.is_adaptive = config.is_adaptive
        self.feedforward = config.featurizer_type == "feedforward"
        # an edge is between an evaluated ring and the next, which is not
        self.n_rings = config.reach_hops

        d_pet, n_layers = config.d_pet, config.num_gnn_layers
        self.halo = LocalHalo()
        self.own_cutoffs = OwnCutoffs(config)
        self.tokens = PaddedTokens()
        self.memory = KeepAll()
        self.edge_embedder = nn.Embedding(n_species, d_pet)
        self.node_embedders = nn.ModuleList(
            nn.Embedding(n_species, config.d_node) for _ in range(config.n_readouts)
        )
        self.gnn_layers = nn.ModuleList(
            GNNLayer(config, n_species, is_first=i == 0) for i in range(n_layers)
        )
        n_combinations = n_layers if self.feedforward else 0
        self.combination_norms = nn.ModuleList(
            JoinedNorm(2 * d_pet) for _ in range(n_combinations)
        )
        self.combination_mlps = nn.ModuleList(
            Combination(
                nn.Linear(2 * d_pet, 2 * d_pet), nn.SiLU(), nn.Linear(2 * d_pet, d_pet)
            )
            for _ in range(n_combinations)
        )
        self.system_conditioning = (
            SystemConditioning(
                config.d_node, config.max_charge, config.max_spin_multiplicity
            )
            if config.system_conditioning
            else None
        )

    def forward(self, graph: EdgeGraph, has_layers: bool = True) -> Features:
        """Features of every owned atom and its kept edges; see :class:`Features`.

        Without layers only the kept edges are found; nodes and edges stay empty.
        """
        edges, rings, cutoffs = self.select(graph)
        layout: Optional[TokenLayout] = None
        if has_layers:
            layout = self.layout_of(edges, rings, self.n_rings - 1)
        return self.evaluate(graph, edges, rings, cutoffs, layout)

    def evaluate(
        self,
        graph: EdgeGraph,
        edges: KeptEdges,
        rings: Rings,
        cutoffs: torch.Tensor,
        layout: Optional[TokenLayout],
    ) -> Features:
        """The layers on what :meth:`select` found; without a layout, none of them.

        The layout is that of the outermost ring.
        """
        n_owned = graph.structures.shape[0]
        nodes: List[torch.Tensor] = []
        messages: List[torch.Tensor] = []
        conditioning = torch.zeros(0)
        if self.system_conditioning is not None:
            conditioning = self.system_conditioning(
                graph.charges, graph.spin_multiplicities
            )
            if graph.halo == constants.RECOMPUTE:  # one structure, ghosts included
                conditioning = conditioning.expand(rings.n_nodes[self.n_rings - 1], -1)
            else:
                conditioning = conditioning[graph.structures]
        species = graph.species[rings.nodes]
        if layout is not None:
            outer = self.n_rings - 1
            n_raw = graph.edge_vectors.shape[0]
            self.memory(rings.n_nodes[outer], rings.n_edges[outer], n_raw)
            halo = graph.halo
            if self.feedforward:
                self.feedforward_layers(
                    edges, rings, layout, species, conditioning, halo, nodes, messages
                )
            else:
                self.residual_layers(
                    edges, rings, layout, species, conditioning, halo, nodes, messages
                )
        n_kept = rings.n_edges[0]
        sizes: List[List[int]] = []
        if layout is not None:
            for i in range(len(self.gnn_layers)):
                ring = self.n_rings - 1 - i
                sizes.append([rings.n_nodes[ring], rings.n_edges[ring]])
        return Features(
            [first(node, n_owned) for node in nodes],
            [first(message, n_kept) for message in messages],
            first(edges.weights, n_kept),
            first(rings.centers, n_kept),
            first(edges.kept, n_kept),
            first(cutoffs, n_owned),
            rings.rings,
            sizes,
        )

    def select(self, graph: EdgeGraph) -> Tuple[KeptEdges, Rings, torch.Tensor]:
        """Edges within the adaptive cutoffs, the rings to evaluate, and the cutoffs.

        Raises:
            ValueError: a charge or multiplicity is outside the range of the model.
        """
        if self.system_conditioning is not None:
            self.system_conditioning.check(graph.charges, graph.spin_multiplicities)
        n_owned = graph.structures.shape[0]
        n_atoms = graph.species.shape[0]
        recomputes = graph.halo == constants.RECOMPUTE
        vectors = graph.edge_vectors
        distances = torch.linalg.vector_norm(vectors, dim=1)
        distances = distances + constants.DISTANCE_EPSILON
        own_cutoffs = self.own_cutoffs(
            distances, graph.centers, n_atoms if recomputes else n_owned
        )
        all_cutoffs = own_cutoffs
        if self.is_adaptive:
            all_cutoffs = self.halo.ghost_values(own_cutoffs, graph.halo)
        # which edges are kept has no gradient, and what is not kept needs none but
        # that of the neighbor counts
        cutoffs = self.pair_cutoffs(
            own_cutoffs.detach(), all_cutoffs.detach(), graph.centers, graph.neighbors
        )
        kept, reverse_edges = self.halo.live_edges(
            distances.detach() <= cutoffs, graph.reverse_edges, graph.halo
        )
        centers = graph.centers[kept]
        neighbors = graph.neighbors[kept]
        if recomputes:
            rings = find_rings(
                centers, neighbors, reverse_edges, n_owned, n_atoms, self.n_rings
            )
            kept = kept[rings.edges]
            centers, neighbors = graph.centers[kept], graph.neighbors[kept]
        else:
            rings = one_ring(centers, reverse_edges, n_owned, self.n_rings)

        vectors = vectors.index_select(0, kept)
        distances = torch.linalg.vector_norm(vectors, dim=1)
        weights = cutoff_weights(
            distances + constants.DISTANCE_EPSILON,
            self.pair_cutoffs(own_cutoffs, all_cutoffs, centers, neighbors),
            self.cutoff_width,
            self.cutoff_function,
        )
        squared = (vectors * vectors).sum(dim=1, keepdim=True)
        squared = squared + constants.DISTANCE_EPSILON
        dtype = self.edge_embedder.weight.dtype
        edges = KeptEdges(
            kept,
            torch.cat([vectors, torch.sqrt(squared)], dim=1).to(dtype),
            weights.to(dtype),
            graph.species[neighbors],
        )
        return edges, rings, own_cutoffs

    def pair_cutoffs(
        self,
        own: torch.Tensor,
        all_: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
    ) -> torch.Tensor:
        """Cutoff of each edge [Å]: the mean of its ends', if these differ."""
        if self.is_adaptive:
            return 0.5 * (own[centers] + all_[neighbors])
        return torch.full([centers.shape[0]], self.cutoff, dtype=own.dtype).to(own)

    def feedforward_layers(
        self,
        edges: KeptEdges,
        rings: Rings,
        layout: TokenLayout,
        species: torch.Tensor,
        conditioning: torch.Tensor,
        halo: int,
        node_features: List[torch.Tensor],
        edge_features: List[torch.Tensor],
    ) -> None:
        """One readout: the last layer's nodes, and messages combined in every layer."""
        nodes = self.node_embedders[0](species)
        messages = self.edge_embedder(edges.neighbor_species)
        for i, (layer, norm, mlp) in enumerate(
            zip(self.gnn_layers, self.combination_norms, self.combination_mlps)
        ):
            ring = self.n_rings - 1 - i
            n_nodes, n_edges = rings.n_nodes[ring], rings.n_edges[ring]
            if n_nodes + 1 != layout.starts.shape[0]:
                layout = self.layout_of(edges, rings, ring)
            nodes, out = layer(
                first(nodes, n_nodes),
                messages,
                first(edges.geometry, n_edges),
                first(edges.neighbor_species, n_edges),
                layout,
            )
            if self.system_conditioning is not None:
                nodes = nodes + first(conditioning, n_nodes)
            n_inner = rings.n_edges[ring - 1]
            reverse = self.halo.reverse(out, first(rings.reverse_edges, n_inner), halo)
            out, messages = first(out, n_inner), first(messages, n_inner)
            messages = mlp(messages, out, norm(out, reverse))
        node_features.append(nodes)
        edge_features.append(messages)

    def residual_layers(
        self,
        edges: KeptEdges,
        rings: Rings,
        layout: TokenLayout,
        species: torch.Tensor,
        conditioning: torch.Tensor,
        halo: int,
        node_features: List[torch.Tensor],
        edge_features: List[torch.Tensor],
    ) -> None:
        """A readout of each layer; messages are means of old and reversed ones."""
        messages = self.edge_embedder(edges.neighbor_species)
        n_layers = len(self.gnn_layers)
        for i, (layer, embedder) in enumerate(
            zip(self.gnn_layers, self.node_embedders)
        ):
            ring = self.n_rings - 1 - i
            n_nodes, n_edges = rings.n_nodes[ring], rings.n_edges[ring]
            if n_nodes + 1 != layout.starts.shape[0]:
                layout = self.layout_of(edges, rings, ring)
            nodes, out = layer(
                embedder(first(species, n_nodes)),
                messages,
                first(edges.geometry, n_edges),
                first(edges.neighbor_species, n_edges),
                layout,
            )
            if self.system_conditioning is not None:
                nodes = nodes + first(conditioning, n_nodes)
            node_features.append(nodes)
            edge_features.append(out)
            if i + 1 < n_layers:
                n_inner = rings.n_edges[ring - 1]
                back = first(rings.reverse_edges, n_inner)
                reverse = self.halo.reverse(out, back, halo)
                messages = 0.5 * (first(messages, n_inner) + reverse)

    def layout_of(self, edges: KeptEdges, rings: Rings, ring: int) -> TokenLayout:
        """Tokens of the nodes within a ring."""
        n_edges = rings.n_edges[ring]
        return self.tokens(
            first(rings.centers, n_edges),
            first(edges.weights, n_edges),
            rings.n_nodes[ring],
        )

"""PET, the Point Edge Transformer: from species and edge vectors to features.

Source: Pozdnyakov and Ceriotti, NeurIPS 2023 (arXiv:2305.19302), and the current form
of the architecture in metatrain (``pet``, checkpoint version 16), whose numbers this
reproduces.
"""

from typing import List, NamedTuple

import torch
from torch import nn

from . import constants
from .config import PETConfig
from .cutoff import (
    adaptive_cutoffs_grid,
    adaptive_cutoffs_solver,
    cutoff_weights,
    grid_probes,
)
from .graph import EdgeGraph
from .halo import LocalHalo
from .transformer import TokenLayout, TransformerLayer, token_layout


class Features(NamedTuple):
    """Output of the network.

    Attributes:
        nodes: per readout layer [n_owned, d_node].
        edges: per readout layer [n_kept, d_pet].
        weights: [n_kept] cutoff factor of each kept edge.
        kept_centers: [n_kept] center of each kept edge.
        kept: [n_kept] index of each kept edge in the raw list.
        cutoffs: [n_owned] Å, each atom's own cutoff.
    """

    nodes: List[torch.Tensor]
    edges: List[torch.Tensor]
    weights: torch.Tensor
    kept_centers: torch.Tensor
    kept: torch.Tensor
    cutoffs: torch.Tensor


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
        embedded = self.edge_embedder(geometry)
        parts = [embedded, messages]
        if self.neighbor_embedder is not None:
            parts = [embedded, self.neighbor_embedder(neighbor_species), messages]
        tokens = self.compress(torch.cat(parts, dim=1))
        for layer in self.trans.layers:
            nodes, tokens = layer(nodes, tokens, layout)
        return [nodes, tokens]


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

    def forward(
        self, charges: torch.Tensor, spin_multiplicities: torch.Tensor
    ) -> torch.Tensor:
        """[n_structures, d_node].

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
        both = torch.cat(
            [
                self.charge_embedding(charges + self.max_charge),
                self.spin_multiplicity_embedding(spins - 1),
            ],
            dim=1,
        )
        return self.project(both)


class PET(nn.Module):
    """The network: scriptable, differentiable twice, of an :class:`EdgeGraph`."""

    def __init__(self, config: PETConfig, n_species: int) -> None:
        super().__init__()
        self.cutoff = config.cutoff
        self.cutoff_function = config.cutoff_function
        self.cutoff_width = config.cutoff_width
        self.cutoff_width_adaptive = config.cutoff_width_adaptive
        self.is_adaptive = config.is_adaptive
        self.n_adaptive = float(config.num_neighbors_adaptive or 0)
        self.use_solver = config.adaptive_cutoff_method == "solver"
        self.feedforward = config.featurizer_type == "feedforward"

        d_pet, n_layers = config.d_pet, config.num_gnn_layers
        self.halo = LocalHalo()
        self.edge_embedder = nn.Embedding(n_species, d_pet)
        self.node_embedders = nn.ModuleList(
            nn.Embedding(n_species, config.d_node) for _ in range(config.n_readouts)
        )
        self.gnn_layers = nn.ModuleList(
            GNNLayer(config, n_species, is_first=i == 0) for i in range(n_layers)
        )
        n_combinations = n_layers if self.feedforward else 0
        self.combination_norms = nn.ModuleList(
            nn.LayerNorm(2 * d_pet) for _ in range(n_combinations)
        )
        self.combination_mlps = nn.ModuleList(
            nn.Sequential(
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

    def forward(self, graph: EdgeGraph) -> Features:
        """Features of every owned atom and kept edge; see :class:`Features`."""
        n_owned = graph.structures.shape[0]
        vectors = graph.edge_vectors
        distances = torch.linalg.vector_norm(vectors, dim=1)
        distances = distances + constants.DISTANCE_EPSILON
        own_cutoffs = self.own_cutoffs(distances, graph.centers, n_owned)
        if self.is_adaptive:
            all_cutoffs = self.halo.ghost_values(own_cutoffs, graph.halo)
            cutoffs = 0.5 * (own_cutoffs[graph.centers] + all_cutoffs[graph.neighbors])
        else:
            cutoffs = torch.full_like(distances, self.cutoff)
        kept, reverse_edges = self.halo.live_edges(
            distances <= cutoffs, graph.reverse_edges, graph.halo
        )
        centers = graph.centers[kept]
        vectors = vectors[kept]
        weights64 = cutoff_weights(
            distances[kept], cutoffs[kept], self.cutoff_width, self.cutoff_function
        )

        dtype = self.edge_embedder.weight.dtype
        weights = weights64.to(dtype)
        squared = (vectors * vectors).sum(dim=1, keepdim=True)
        squared = squared + constants.DISTANCE_EPSILON
        geometry = torch.cat([vectors, torch.sqrt(squared)], dim=1).to(dtype)
        layout = token_layout(centers, weights, n_owned)
        species = graph.species[:n_owned]
        neighbor_species = graph.species[graph.neighbors[kept]]
        messages = self.edge_embedder(neighbor_species)
        conditioning = torch.zeros(n_owned, 1, dtype=dtype, device=vectors.device)
        if self.system_conditioning is not None:
            conditioning = self.system_conditioning(
                graph.charges, graph.spin_multiplicities
            )
            conditioning = conditioning[graph.structures]

        node_features: List[torch.Tensor] = []
        edge_features: List[torch.Tensor] = []
        if self.feedforward:
            nodes = self.node_embedders[0](species)
            for layer, norm, mlp in zip(
                self.gnn_layers, self.combination_norms, self.combination_mlps
            ):
                nodes, out = layer(nodes, messages, geometry, neighbor_species, layout)
                if self.system_conditioning is not None:
                    nodes = nodes + conditioning
                reverse = self.halo.reverse(out, reverse_edges, graph.halo)
                messages = messages + out + mlp(norm(torch.cat([out, reverse], dim=1)))
            node_features.append(nodes)
            edge_features.append(messages)
        else:
            n_layers = len(self.gnn_layers)
            for i, (layer, embedder) in enumerate(
                zip(self.gnn_layers, self.node_embedders)
            ):
                nodes, out = layer(
                    embedder(species), messages, geometry, neighbor_species, layout
                )
                if self.system_conditioning is not None:
                    nodes = nodes + conditioning
                node_features.append(nodes)
                edge_features.append(out)
                if i + 1 < n_layers:
                    messages = 0.5 * (
                        messages + self.halo.reverse(out, reverse_edges, graph.halo)
                    )
        return Features(
            node_features, edge_features, weights, centers, kept, own_cutoffs
        )

    def own_cutoffs(
        self, distances: torch.Tensor, centers: torch.Tensor, n_owned: int
    ) -> torch.Tensor:
        """Cutoff of each owned atom, [n_owned] Å."""
        if not self.is_adaptive:
            return torch.full([n_owned], self.cutoff, dtype=torch.float64).to(distances)
        inside = torch.nonzero(distances <= self.cutoff).squeeze(1)
        distances = distances[inside]
        centers = centers[inside]
        if self.use_solver:
            return adaptive_cutoffs_solver(
                distances,
                centers,
                n_owned,
                self.cutoff,
                self.n_adaptive,
                self.cutoff_width_adaptive,
            )
        return adaptive_cutoffs_grid(
            distances,
            centers,
            n_owned,
            grid_probes(self.cutoff, self.cutoff_width_adaptive).to(distances),
            self.n_adaptive,
            self.cutoff_width_adaptive,
        )

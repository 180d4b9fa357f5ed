"""PET as it is defined, one atom and one edge at a time: the judge of the fast one.

No packing, no padding, no batches and no modules of the package: a mapping of weights
and loops over atoms. Only the hyperparameters and the edge list come from outside. It
is differentiable with respect to the edge vectors, so forces are judged as well.
"""

import math
from collections.abc import Mapping

import torch
from reference_pairs import bump, cosine, grid_cutoff, solver_cutoff, zbl_pair
from torch.nn import functional

from petmad.model import EdgeGraph, PETConfig


Weights = Mapping[str, torch.Tensor]


def linear(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Affine map with the weight (out, in) and bias called ``name``."""
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def two_layers(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Linear, SiLU, Linear."""
    hidden = functional.silu(linear(weights, f"{name}.0", x))
    return linear(weights, f"{name}.2", hidden)


def norm(weights: Weights, name: str, x: torch.Tensor, kind: str) -> torch.Tensor:
    """RMSNorm (epsilon of the dtype) or LayerNorm (epsilon 1e-5) of one row."""
    if kind == "RMSNorm":
        epsilon = torch.finfo(x.dtype).eps
        return x / torch.sqrt((x * x).mean() + epsilon) * weights[f"{name}.weight"]
    centered = x - x.mean()
    scaled = centered / torch.sqrt((centered * centered).mean() + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def feed_forward(
    weights: Weights, name: str, x: torch.Tensor, config: PETConfig
) -> torch.Tensor:
    """MLP of a transformer layer; SwiGLU has value first and a plain sigmoid gate."""
    x = linear(weights, f"{name}.w_in", x)
    if config.activation == "SwiGLU":
        half = len(x) // 2
        x = x[:half] / (1 + torch.exp(-x[half:]))
    else:
        x = functional.silu(x)
    return linear(weights, f"{name}.w_out", x)


def attention(
    weights: Weights,
    name: str,
    tokens: list[torch.Tensor],
    factors: list[torch.Tensor],
    config: PETConfig,
) -> list[torch.Tensor]:
    """Every token asks all tokens of its atom; keys are biased by ln(cutoff factor)."""
    d, heads = config.d_pet, config.num_heads
    size = d // heads
    qkv = [linear(weights, f"{name}.input_linear", t) for t in tokens]
    answers = []
    for asking in qkv:
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = []
            for asked, factor in zip(qkv, factors, strict=True):
                product = asking[:d][part] @ asked[d : 2 * d][part]
                scale = math.sqrt(size) * config.attention_temperature
                scores.append(
                    product / scale + torch.log(torch.clamp(factor, min=1e-15))
                )
            shares = torch.softmax(torch.stack(scores), dim=0)
            values = [asked[2 * d :][part] for asked in qkv]
            mixed.append(sum(s * v for s, v in zip(shares, values, strict=True)))
        answers.append(linear(weights, f"{name}.output_linear", torch.cat(mixed)))
    return answers


def transformer_layer(
    weights: Weights,
    name: str,
    node: torch.Tensor,
    tokens: list[torch.Tensor],
    factors: list[torch.Tensor],
    config: PETConfig,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One layer of one atom; PreLN without expansion drops the center's residual."""

    def normed(which: str, x: torch.Tensor) -> torch.Tensor:
        return norm(weights, f"{name}.{which}", x, config.normalization)

    def mlp(x: torch.Tensor) -> torch.Tensor:
        return feed_forward(weights, f"{name}.mlp", x, config)

    expanded = config.d_node != config.d_pet
    center = linear(weights, f"{name}.center_contraction", node) if expanded else node
    rows = [center, *tokens]
    factors = [torch.ones_like(center[0]), *factors]
    if config.transformer_type == "PreLN":
        rows_in = [normed("norm_attention", row) for row in rows]
        answers = attention(weights, f"{name}.attention", rows_in, factors, config)
        center = answers[0]
        tokens = [t + a for t, a in zip(tokens, answers[1:], strict=True)]
        tokens = [t + mlp(normed("norm_mlp", t)) for t in tokens]
    else:
        answers = attention(weights, f"{name}.attention", rows, factors, config)
        sums = [r + a for r, a in zip(rows, answers, strict=True)]
        rows = [normed("norm_attention", x) for x in sums]
        rows = [normed("norm_mlp", x + mlp(x)) for x in rows]
        center, tokens = rows[0], rows[1:]
    if not expanded:
        return center, tokens
    node = node + linear(weights, f"{name}.center_expansion", center)
    inner = normed("norm_center_features", node)
    return node + feed_forward(weights, f"{name}.center_mlp", inner, config), tokens


class ReferencePET:
    """A potential's energy target, evaluated from its weights by the definition.

    Args:
        config: hyperparameters.
        weights: state dict of :class:`petmad.model.Potential`, all float64.
        atomic_numbers: of each species.
        covalent_radii: of each species [Å], for ZBL.
    """

    def __init__(
        self,
        config: PETConfig,
        weights: Weights,
        atomic_numbers: list[int],
        covalent_radii: list[float],
    ) -> None:
        self.config = config
        self.weights = dict(weights)
        self.net = {
            k.removeprefix("network."): v for k, v in weights.items() if "network." in k
        }
        self.atomic_numbers = atomic_numbers
        radii = torch.tensor(covalent_radii, dtype=torch.float32)
        self.radii = radii.double().tolist()

    def atomic_energies(self, graph: EdgeGraph) -> torch.Tensor:
        """[n_atoms] eV, for a graph whose ``species`` are all owned."""
        self.select_edges(graph)
        readouts = self.node_and_edge_features(graph)
        energies = []
        for i, species in enumerate(graph.species.tolist()):
            energy = sum(self.readout(r, i, *parts) for r, parts in enumerate(readouts))
            energy = energy * self.weights["scales.0"][species, 0]
            energy = energy + self.weights["compositions.0"][species, 0]
            energies.append(energy + self.repulsion(graph, i))
        return torch.stack(energies)

    def select_edges(self, graph: EdgeGraph) -> None:
        """Cutoff of each atom, factor of each edge, and the edges each atom keeps."""
        config = self.config
        self.distances = [torch.sqrt((v * v).sum()) + 1e-15 for v in graph.edge_vectors]
        centers, neighbors = graph.centers.tolist(), graph.neighbors.tolist()
        self.cutoffs = []
        for i in range(len(graph.species)):
            near = [
                r
                for c, r in zip(centers, self.distances, strict=True)
                if c == i and r <= config.cutoff
            ]
            self.cutoffs.append(self.own_cutoff(near))
        self.factors: dict[int, torch.Tensor] = {}
        taper = bump if config.cutoff_function == "Bump" else cosine
        for e, (i, j) in enumerate(zip(centers, neighbors, strict=True)):
            cutoff = 0.5 * (self.cutoffs[i] + self.cutoffs[j])
            if self.distances[e] <= cutoff:
                self.factors[e] = taper(self.distances[e], cutoff, config.cutoff_width)
        self.edges_of = [
            [e for e in self.factors if centers[e] == i]
            for i in range(len(graph.species))
        ]

    def own_cutoff(self, near: list[torch.Tensor]) -> torch.Tensor:
        """Cutoff of an atom whose raw neighbors have these distances."""
        config = self.config
        if config.num_neighbors_adaptive is None:
            return torch.tensor(config.cutoff, dtype=torch.float64)
        distances = torch.stack(near) if near else torch.zeros(0, dtype=torch.float64)
        if config.adaptive_cutoff_method == "grid":
            return grid_cutoff(distances, config)
        return solver_cutoff(distances, config)

    def geometry(self, layer: int, vector: torch.Tensor) -> torch.Tensor:
        """Embedding of one edge vector; its length differs from r in the last bits."""
        d = torch.sqrt((vector * vector).sum() + 1e-15)
        x = torch.cat([vector, d[None]])
        return linear(self.net, f"gnn_layers.{layer}.edge_embedder", x)

    def conditioning(self, graph: EdgeGraph, i: int) -> torch.Tensor | float:
        """What charge and multiplicity add to a node state after each GNN layer."""
        if not self.config.system_conditioning:
            return 0.0
        structure = int(graph.structures[i])
        charge = int(graph.charges[structure]) + self.config.max_charge
        spin = int(graph.spin_multiplicities[structure]) - 1
        name = "system_conditioning"
        tables = (
            self.net[f"{name}.charge_embedding.weight"][charge],
            self.net[f"{name}.spin_multiplicity_embedding.weight"][spin],
        )
        return two_layers(self.net, f"{name}.project", torch.cat(tables))

    def layer_output(
        self, layer: int, graph: EdgeGraph, i: int, node: torch.Tensor, messages: dict
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Node state and edge outputs of atom i after one GNN layer."""
        name = f"gnn_layers.{layer}"
        edges = self.edges_of[i]
        tokens = []
        for e in edges:
            parts = [self.geometry(layer, graph.edge_vectors[e]), messages[e]]
            if layer > 0:
                species = int(graph.species[graph.neighbors[e]])
                table = self.net[f"{name}.neighbor_embedder.weight"]
                parts.insert(1, table[species])
            tokens.append(two_layers(self.net, f"{name}.compress", torch.cat(parts)))
        factors = [self.factors[e] for e in edges]
        for a in range(self.config.num_attention_layers):
            node, tokens = transformer_layer(
                self.net, f"{name}.trans.layers.{a}", node, tokens, factors, self.config
            )
        return node + self.conditioning(graph, i), dict(zip(edges, tokens, strict=True))

    def node_and_edge_features(self, graph: EdgeGraph) -> list[tuple[list, dict]]:
        """Node states and edge features of each readout layer."""
        species = graph.species.tolist()
        neighbors, reverse = graph.neighbors.tolist(), graph.reverse_edges.tolist()
        table = self.net["edge_embedder.weight"]
        messages = {e: table[species[neighbors[e]]] for e in self.factors}
        is_feedforward = self.config.featurizer_type == "feedforward"
        nodes = [self.net["node_embedders.0.weight"][s] for s in species]
        readouts: list[tuple[list, dict]] = []
        for layer in range(self.config.num_gnn_layers):
            if not is_feedforward:
                starts = self.net[f"node_embedders.{layer}.weight"]
                nodes = [starts[s] for s in species]
            out: dict[int, torch.Tensor] = {}
            for i, node in enumerate(nodes):
                nodes[i], of_atom = self.layer_output(layer, graph, i, node, messages)
                out.update(of_atom)
            if is_feedforward:
                for e in messages:
                    both = torch.cat([out[e], out[reverse[e]]])
                    both = norm(
                        self.net, f"combination_norms.{layer}", both, "LayerNorm"
                    )
                    change = two_layers(self.net, f"combination_mlps.{layer}", both)
                    messages[e] = messages[e] + out[e] + change
            else:
                readouts.append((list(nodes), out))
                messages = {e: 0.5 * (m + out[reverse[e]]) for e, m in messages.items()}
        return readouts or [(nodes, messages)]

    def readout(self, layer: int, i: int, nodes: list, edges: dict) -> torch.Tensor:
        """Raw energy of atom i from one readout layer."""

        def part(kind: str, x: torch.Tensor) -> torch.Tensor:
            name = f"readouts.0.{kind}_heads.{layer}"
            x = functional.silu(two_layers(self.weights, name, x))
            return linear(self.weights, f"readouts.0.{kind}_last.{layer}", x)[0]

        energy = part("node", nodes[i])
        for e in self.edges_of[i]:
            energy = energy + self.factors[e] * part("edge", edges[e])
        return energy

    def repulsion(self, graph: EdgeGraph, i: int) -> torch.Tensor | float:
        """Half the ZBL energy of every pair of atom i."""
        energy: torch.Tensor | float = 0.0
        if not self.config.zbl:
            return energy
        for e in torch.nonzero(graph.centers == i).flatten().tolist():
            pair = (int(graph.species[i]), int(graph.species[graph.neighbors[e]]))
            rc = self.radii[pair[0]] + self.radii[pair[1]]
            if self.distances[e] < rc:
                zi, zj = (self.atomic_numbers[s] for s in pair)
                energy = energy + 0.5 * zbl_pair(zi, zj, self.distances[e], rc)
        return energy

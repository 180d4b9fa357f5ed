"""Energies and their gradients through ``torch.compile``, for a step of training.

A loss of forces needs gradients of gradients, which ``torch.compile`` does not give.
So the gradient with respect to the edges is made a part of what is compiled: its
output, which then is differentiated once, with respect to the weights. What comes
before the layers (adaptive cutoffs, which edges are kept, where their tokens sit) has
no weights and stays as it is; its part of the forces is one more factor of the chain
rule, in :func:`CompiledPrediction.__call__`.
"""

import torch
from torch.fx.experimental import _config as symbolic_shapes

from petmad.model import EdgeGraph, Potential
from petmad.model.pet import KeptEdges
from petmad.model.rings import one_ring
from petmad.model.transformer import TokenSlots, token_slots, weigh_slots

from .loss import Labels, Levels, energies_by_level, fold, sum_by_structure


BROKEN = (
    "`training.compile` did not work here: {error}; it needs a C++ compiler and "
    "Python's headers (of Debian, the packages g++ and python3-dev), on a GPU Triton; "
    "mend that, or set `training.compile: false`"
)


class CompiledPrediction:
    """What :func:`petmad.training.loss.predict_with` gives, differentiable by weights.

    A new one makes torch forget what it compiled before: it keeps a few versions of one
    function and no more, and they are of other models.

    Args:
        potential: its weights are read at each call.
        backend: of ``torch.compile``.
    """

    def __init__(self, potential: Potential, backend: str = "inductor") -> None:
        self.potential = potential
        torch.compiler.reset()
        self.compiled = torch.compile(
            self._gradients, backend=backend, dynamic=True, fullgraph=True
        )

    def __call__(
        self, graph: EdgeGraph, outputs: list[str], levels: Levels
    ) -> tuple[Labels, dict[str, torch.Tensor]]:
        """Labels in units of the energy scale, and other outputs per atom.

        Raises:
            ValueError: it cannot be compiled here.
        """
        network = self.potential.network
        vectors = graph.edge_vectors.detach().requires_grad_(True)
        edges, rings, cutoffs = network.select(graph._replace(edge_vectors=vectors))
        slots = token_slots(rings.centers, graph.structures.shape[0])
        # no view: the shape of what it shows would be one more to compile for
        slots = slots._replace(rows=slots.rows.clone())
        geometry, weights = edges.geometry, edges.weights
        rest = edges._replace(geometry=geometry.detach(), weights=weights.detach())
        try:
            # Sizes that agree by chance in the first batch are not taken for the same:
            # batches in which they differ would each be compiled anew.
            with symbolic_shapes.patch(use_duck_shape=False):
                atomic, others, gradients = self.compiled(
                    rest.geometry,
                    rest.weights,
                    rest,
                    (rings.centers, rings.reverse_edges, cutoffs.detach()),
                    slots,
                    _without_edges(graph),
                    [*levels.names, *outputs],
                    levels,
                )
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(BROKEN.format(error=reason)) from error
        (of_vectors,) = torch.autograd.grad(
            (geometry, weights), vectors, gradients, create_graph=True
        )
        energies = sum_by_structure(atomic, graph)
        return fold(energies, of_vectors, graph), others

    def _gradients(
        self,
        geometry: torch.Tensor,
        weights: torch.Tensor,
        edges: KeptEdges,
        rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        slots: TokenSlots,
        graph: EdgeGraph,
        names: list[str],
        levels: Levels,
    ) -> tuple:
        """Energies per atom, other outputs, gradients by geometry and weights."""
        n_owned = graph.structures.shape[0]
        centers, reverse_edges, cutoffs = rows
        network = self.potential.network
        rings = one_ring(centers, reverse_edges, n_owned, network.n_rings)

        def total(geometry: torch.Tensor, weights: torch.Tensor) -> tuple:
            kept = edges._replace(geometry=geometry, weights=weights)
            layout = weigh_slots(slots, weights)
            features = network.evaluate(graph, kept, rings, cutoffs, layout)
            results = self.potential.read(features, graph, names, True)
            atomic = energies_by_level(results, graph, levels)
            others = {name: results[name] for name in names if name not in levels.names}
            return atomic.sum(), (atomic, others)

        gradient = torch.func.grad(total, argnums=(0, 1), has_aux=True)
        gradients, (atomic, others) = gradient(geometry, weights)
        return atomic, others, gradients


def _without_edges(graph: EdgeGraph) -> EdgeGraph:
    """The atoms alone: where the sizes of both lists agree, code for that is made."""
    nothing = graph.centers.new_zeros(0)
    return graph._replace(
        edge_vectors=graph.edge_vectors.new_zeros(0, 3),
        centers=nothing,
        neighbors=nothing,
        reverse_edges=nothing,
    )

"""Derivatives of tensors with respect to positions, by automatic differentiation.

Of a dipole they are the Born effective charges, of a polarizability the Raman tensors.
"""

import torch

from .folds import fold_forces
from .graph import EdgeGraph
from .potential import Potential


def position_derivatives(
    potential: Potential, graph: EdgeGraph, target: str
) -> torch.Tensor:
    """∂T/∂r of a target summed over all atoms of the graph, one backward per entry.

    Args:
        potential: the model, in plain torch.
        graph: one structure; its edge vectors need not require gradients.
        target: name of the target; of a tensor its Cartesian entries are derived.

    Returns:
        [n_entries, n_atoms, 3] float64, in the target's unit per Å. For a vector in eÅ
        element [a, i, b] is the Born charge Z_i,ab = ∂μ_a/∂r_ib in e. They sum to
        zero over the atoms, since a model does not see where a structure lies: the
        dipole of a charged one is that relative to its own origin.
    """
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    entries = potential(graph._replace(edge_vectors=vectors), [target])[target].sum(0)
    n_atoms = graph.species.shape[0]
    rows = []
    for entry in entries:
        (gradient,) = torch.autograd.grad(
            entry, vectors, retain_graph=True, materialize_grads=True
        )
        rows.append(-fold_forces(gradient, graph.centers, graph.neighbors, n_atoms))
    return torch.stack(rows)

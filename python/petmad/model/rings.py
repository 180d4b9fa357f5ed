"""What is left to evaluate when ghosts are recomputed rather than asked for.

A message travels one kept edge per layer, so an atom ``k`` kept edges away from all
owned atoms (in ring ``k``) matters to all layers but the last ``k``. Nodes are
numbered ring by ring and edges by center: each layer then works on the first nodes and
edges, fewer with every layer, and the owned atoms come first.
"""

from typing import List, NamedTuple

import torch


class Rings(NamedTuple):
    """The part of the kept graph that is evaluated.

    Attributes:
        nodes: [n_nodes] atom of each node, ring by ring.
        edges: [n_edges] kept edge of each row, ascending by center.
        centers: [n_edges] node.
        reverse_edges: [n_edges] row of the edge back; -1 where it is not evaluated.
        n_nodes: how many nodes are within each ring, from 0 (the owned atoms) on.
        n_edges: how many edges have their center within each ring.
        rings: [n_atoms] ring of each atom, ``len(n_nodes)`` for those just outside of
            the last, -1 for atoms farther away.
    """

    nodes: torch.Tensor
    edges: torch.Tensor
    centers: torch.Tensor
    reverse_edges: torch.Tensor
    n_nodes: List[int]
    n_edges: List[int]
    rings: torch.Tensor


def one_ring(
    centers: torch.Tensor, reverse_edges: torch.Tensor, n_owned: int, n_rings: int
) -> Rings:
    """All edges in every layer: every center is owned here."""
    n_edges = centers.shape[0]
    return Rings(
        torch.arange(n_owned, device=centers.device),
        torch.arange(n_edges, device=centers.device),
        centers,
        reverse_edges,
        [n_owned] * n_rings,
        [n_edges] * n_rings,
        torch.zeros(n_owned, dtype=torch.int64, device=centers.device),
    )


def find_rings(
    centers: torch.Tensor,
    neighbors: torch.Tensor,
    reverse_edges: torch.Tensor,
    n_owned: int,
    n_atoms: int,
    n_rings: int,
) -> Rings:
    """Rings of the kept graph around the owned atoms.

    Args:
        centers: [n_kept] atom of each kept edge, ghosts among them.
        neighbors: [n_kept] atom.
        reverse_edges: [n_kept] kept edge back.
        n_owned: owned atoms come first.
        n_atoms: owned atoms and ghosts.
        n_rings: rings to evaluate, the owned atoms' included.
    """
    rings = centers.new_full([n_atoms], n_rings + 1)
    rings[:n_owned] = 0
    for ring in range(n_rings):
        reached = neighbors[rings[centers] == ring]
        rings[reached] = torch.clamp(rings[reached], max=ring + 1)

    # stable: owned atoms keep their places
    order = torch.argsort(rings, stable=True)
    counts = torch.bincount(rings, minlength=n_rings)[:n_rings]
    n_nodes: List[int] = torch.cumsum(counts, dim=0).tolist()
    nodes = order[: n_nodes[n_rings - 1]]
    node_of_atom = torch.full_like(rings, -1)
    node_of_atom[nodes] = torch.arange(nodes.shape[0], device=nodes.device)

    edges = torch.nonzero(node_of_atom[centers] >= 0).squeeze(1)
    edges = edges[torch.argsort(node_of_atom[centers[edges]], stable=True)]
    row_of_edge = torch.full_like(centers, -1)
    row_of_edge[edges] = torch.arange(edges.shape[0], device=edges.device)
    of_ring = torch.bincount(rings[centers[edges]], minlength=n_rings)
    n_edges: List[int] = torch.cumsum(of_ring, dim=0).tolist()
    return Rings(
        nodes,
        edges,
        node_of_atom[centers[edges]],
        row_of_edge[reverse_edges[edges]],
        n_nodes,
        n_edges,
        torch.where(rings > n_rings, torch.full_like(rings, -1), rings),
    )


def first(rows: torch.Tensor, n: int) -> torch.Tensor:
    """The first n rows; the tensor itself if there are no more, which costs nothing."""
    return rows if rows.shape[0] == n else rows[:n]

"""Forces, virials and their per-atom parts as folds of one edge gradient.

With g_ij = ∂E/∂r_ij and r_ij = r_j - r_i: F_i += g_ij, F_j -= g_ij, and the virial is
-Σ r_ij ⊗ g_ij. The C++ engine folds in the same way.
"""

import torch


def fold_forces(
    edge_gradients: torch.Tensor,
    centers: torch.Tensor,
    neighbors: torch.Tensor,
    n_atoms: int,
) -> torch.Tensor:
    """Forces [n_atoms, 3] eV/Å from edge gradients [n_edges, 3] eV/Å."""
    forces = torch.zeros(
        n_atoms, 3, dtype=edge_gradients.dtype, device=edge_gradients.device
    )
    forces = forces.index_add(0, centers, edge_gradients)
    return forces.index_add(0, neighbors, -edge_gradients)


def fold_strain_gradients(
    edge_gradients: torch.Tensor,
    edge_vectors: torch.Tensor,
    edge_structures: torch.Tensor,
    n_structures: int,
) -> torch.Tensor:
    """∂E/∂strain of each structure, [n_structures, 3, 3] eV, not symmetrised.

    Row vectors are strained from the right: x → x (1 + ε).
    """
    outer = edge_vectors[:, :, None] * edge_gradients[:, None, :]
    total = torch.zeros(n_structures, 3, 3, dtype=outer.dtype, device=outer.device)
    return total.index_add(0, edge_structures, outer)


def fold_virial(
    edge_gradients: torch.Tensor, edge_vectors: torch.Tensor
) -> torch.Tensor:
    """Virial [3, 3] eV, symmetrised: LAMMPS's sign, -∂E/∂strain."""
    virial = -edge_vectors.T @ edge_gradients
    return 0.5 * (virial + virial.T)


def fold_atomic_virials(
    edge_gradients: torch.Tensor,
    edge_vectors: torch.Tensor,
    centers: torch.Tensor,
    neighbors: torch.Tensor,
    n_atoms: int,
) -> torch.Tensor:
    """Per-atom virials [n_atoms, 3, 3] eV: half an edge to each end; not symmetric."""
    share = -0.5 * edge_vectors[:, :, None] * edge_gradients[:, None, :]
    virials = torch.zeros(n_atoms, 3, 3, dtype=share.dtype, device=share.device)
    return virials.index_add(0, centers, share).index_add(0, neighbors, share)

// Edge vectors, the reverse-edge index, and the folds of one edge gradient.
#pragma once

#include <torch/types.h>

#include "petmad/neighbor_list.h"

namespace petmad {

/// r_ij = r_j - r_i + S·cell, [n_edges, 3] float64 Å.
torch::Tensor
edge_vectors(const torch::Tensor& positions, const torch::Tensor& cell, const NeighborList& list);

/// Index of the edge j -> i with -S of each edge i -> j, [n_edges] int64; -1 where it is not
/// listed. Throws Error unless the edges ascend in (center, neighbor, shift), as built lists do.
torch::Tensor reverse_edges(const NeighborList& list);

/// The same for all edges of all atoms, as build_neighbor_list gives them: none is missing, and
/// nothing is checked or searched.
torch::Tensor reverse_edges_of_whole(const NeighborList& list, int64_t n_atoms);

/// Forces [n_atoms, 3]: F_i += g_ij, F_j -= g_ij.
torch::Tensor fold_forces(
    const torch::Tensor& gradients, const torch::Tensor& centers, const torch::Tensor& neighbors,
    int64_t n_atoms
);

/// -Σ r_ij ⊗ g_ij symmetrised, [3, 3] eV.
torch::Tensor fold_virial(const torch::Tensor& gradients, const torch::Tensor& vectors);

/// Per-atom virials [n_atoms, 3, 3] eV, half of each edge to either end; not symmetrised.
torch::Tensor fold_atomic_virials(
    const torch::Tensor& gradients, const torch::Tensor& vectors, const torch::Tensor& centers,
    const torch::Tensor& neighbors, int64_t n_atoms
);

} // namespace petmad

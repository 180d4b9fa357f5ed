// Neighbor list, geometry, folds and adaptive cutoffs on GPUs, and on CPUs by emulation. The
// functions of petmad/neighbor_list.h, petmad/edges.h and cpu/cutoff_op.h, on the device of their
// tensors; centers must ascend.
#pragma once

#include <torch/types.h>

#include "petmad/neighbor_list.h"

namespace petmad::cuda {

/// See build_neighbor_list(): the same edges in the same order, on the device of `positions`.
/// Waits for the device three times: extent and validity of the positions, number of edges.
NeighborList build_list(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
);

torch::Tensor
list_vectors(const torch::Tensor& positions, const torch::Tensor& cell, const NeighborList& list);

/// Throws Error unless the centers ascend.
torch::Tensor reverse_list(const NeighborList& list);

/// The edge back of each edge of a list whose neighbors are images of nodes: `centers` and `nodes`
/// of the neighbors [n_edges]. Of several, the one whose vector is nearest to the opposite, within
/// `tolerance` Å; -1 where there is none, and for nodes from n_nodes on. Throws Error unless the
/// centers ascend.
torch::Tensor match_list(
    const torch::Tensor& centers, const torch::Tensor& nodes, const torch::Tensor& vectors,
    int64_t n_nodes, double tolerance
);

/// Edges of each atom, from both ends; worth keeping as long as the list.
struct ListIncidence {
    torch::Tensor starts;    ///< [n_centers + 1] first edge of each center
    torch::Tensor incoming;  ///< [n_edges] edges by neighbor, ascending within
    torch::Tensor in_starts; ///< [n_atoms + 1] first of each neighbor in `incoming`
};

/// Throws Error unless the centers ascend.
ListIncidence
incidence_of(const torch::Tensor& centers, const torch::Tensor& neighbors, int64_t n_atoms);

/// Forces [n_atoms, 3]: F_i += g_ij, F_j -= g_ij, each atom's edges in their order.
torch::Tensor fold_list_forces(const torch::Tensor& gradients, const ListIncidence& incidence);

/// -Σ r_ij ⊗ g_ij symmetrised, [3, 3] eV.
torch::Tensor fold_list_virial(const torch::Tensor& gradients, const torch::Tensor& vectors);

/// Per-atom virials [n_atoms, 3, 3], half of each edge to either end.
torch::Tensor fold_list_atomic_virials(
    const torch::Tensor& gradients, const torch::Tensor& vectors, const ListIncidence& incidence
);

/// First edge of each center, then their number: [n_centers + 1].
torch::Tensor list_starts(const torch::Tensor& centers, int64_t n_centers);

torch::Tensor solver_cutoffs(
    const torch::Tensor& distances, const torch::Tensor& centers, int64_t n_centers, double cutoff,
    double n_neighbors, double width, int64_t iterations, double slope_floor
);

torch::Tensor grid_cutoffs(
    const torch::Tensor& distances, const torch::Tensor& centers, int64_t n_centers, double cutoff,
    const torch::Tensor& probes, double n_neighbors, double width, double floor
);

} // namespace petmad::cuda

// Full neighbor lists by a cell list, and the brute-force list that judges it.
#pragma once

#include <cstdint>

#include <torch/types.h>

namespace petmad {

/// Directed edges i -> j with r_ij <= cutoff, ascending in (center, neighbor, shift).
struct NeighborList {
    torch::Tensor centers;     ///< [n_edges] int64
    torch::Tensor neighbors;   ///< [n_edges] int64
    torch::Tensor cell_shifts; ///< [n_edges, 3] int64, lattice vectors added to j
};

/// Builds the full list; periodic images of an atom are its neighbors like any other.
///
/// `positions` [n_atoms, 3] float64 Å, wrapped or not; `cell` [3, 3] float64 Å, rows along
/// non-periodic directions are ignored; `pbc` [3] bool; `n_centers` >= 0 lists the edges of the
/// first so many atoms only. Cost grows with n_atoms; cells may be smaller than the cutoff. Throws
/// Error: shapes, non-finite positions, a singular cell, a cutoff that is not positive.
NeighborList build_neighbor_list(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers = -1
);

/// The same edges in the same order by looking at every pair and image.
NeighborList build_neighbor_list_brute_force(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers = -1
);

} // namespace petmad

// Adaptive cutoffs of all centers as differentiable operators, in float64.
#pragma once

#include <torch/types.h>

namespace petmad::cpu {

/// Radius [n_centers] Å at which the soft count of neighbors reaches n_neighbors: a bracketed
/// Newton search of `iterations` steps, then one differentiable step.
///
/// distances: [n_edges] Å, those beyond `cutoff` are passed over; centers: [n_edges] ascending.
/// Differentiable once, in distances.
torch::Tensor adaptive_cutoffs_solver(
    const torch::Tensor& distances, const torch::Tensor& centers, int64_t n_centers, double cutoff,
    double n_neighbors, double width, int64_t iterations, double slope_floor
);

/// The same by a weighted mean over probe radii [n_probes] Å, ascending.
torch::Tensor adaptive_cutoffs_grid(
    const torch::Tensor& distances, const torch::Tensor& centers, int64_t n_centers, double cutoff,
    const torch::Tensor& probes, double n_neighbors, double width, double floor
);

/// First edge of each center, then their number: [n_centers + 1]. centers: [n_edges] ascending.
torch::Tensor edge_starts(const torch::Tensor& centers, int64_t n_centers);

} // namespace petmad::cpu

// The edges of one evaluation, numbered for the network and for the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "cuda/list_ops.h"
#include "petmad/types.h"

namespace petmad {

/// Nodes are the atoms the network sees: those owned here that take part, then those that other
/// ranks own. Atoms are the caller's, ghosts and non-participants included.
/// Tensors lie where the list was built, the host or a GPU; they may be views, valid until the
/// next step.
struct StepEdges {
    std::vector<int64_t> owned_atoms; ///< [n_owned nodes] the caller's atom of each
    torch::Tensor species;            ///< [n_nodes] int64, as are all indices
    torch::Tensor vectors;            ///< [n_edges, 3] Å, float64
    torch::Tensor centers;            ///< [n_edges] nodes, ascending
    torch::Tensor neighbors;          ///< [n_edges] nodes
    torch::Tensor reverse;            ///< [n_edges] the edge back; -1: on another rank, or none
    torch::Tensor center_atoms;
    torch::Tensor neighbor_atoms;
    int64_t n_within = 0;                         ///< edges of owned nodes within the cutoff
    std::optional<cuda::ListIncidence> incidence; ///< of atoms, where a GPU's kernels fold

    int64_t size() const { return centers.size(0); }
    int64_t n_owned() const { return static_cast<int64_t>(owned_atoms.size()); }
};

/// Edges of a whole system, searched afresh on the host.
/// Throws Error: shapes and values `build_neighbor_list` rejects, unknown species, atoms closer
/// than 0.01 Å.
StepEdges system_edges(const System& system, double cutoff, int64_t n_species);

/// The same on a device, by the kernels of GPUs.
StepEdges
system_edges_on(torch::Device device, const System& system, double cutoff, int64_t n_species);

/// Throws Error when the square of a distance is below (0.01 Å)², naming both atoms.
void check_apart(double squared_distance, int64_t a, int64_t b, const int64_t* labels);

/// Throws Error where `n_centers` have more edges within `reach` [Å] than any matter has: a box
/// that collapses would take ever longer, and say nothing.
void check_crowding(int64_t n_edges, int64_t n_centers, double reach);

/// [n_edges] Å².
torch::Tensor squared_lengths(const StepEdges& edges);

/// The same for all edges.
void check_all_apart(
    const StepEdges& edges, const torch::Tensor& squared_lengths, const int64_t* labels
);

/// Throws Error unless the position of each atom with a species is finite.
void check_positions(
    const double* positions, const int32_t* species, int64_t n_atoms, const int64_t* labels
);

} // namespace petmad

// The edges of one evaluation, numbered for the network and for the caller.
#pragma once

#include <cstdint>
#include <vector>

#include "petmad/types.h"

namespace petmad {

/// Nodes are the atoms the network sees: those owned here that take part, then those that other
/// ranks own. Atoms are the caller's, ghosts and non-participants included.
struct StepEdges {
    std::vector<int64_t> owned_atoms; ///< [n_owned nodes] the caller's atom of each
    std::vector<int64_t> species;     ///< [n_nodes]
    std::vector<double> vectors;      ///< [n_edges, 3] Å
    std::vector<int64_t> centers;     ///< [n_edges] nodes, ascending
    std::vector<int64_t> neighbors;   ///< [n_edges] nodes
    std::vector<int64_t> reverse;     ///< [n_edges] the edge back; -1: on another rank, or none
    std::vector<int64_t> center_atoms;
    std::vector<int64_t> neighbor_atoms;

    int64_t size() const { return static_cast<int64_t>(centers.size()); }
    void clear_edges() {
        for (auto* indices : {&centers, &neighbors, &reverse, &center_atoms, &neighbor_atoms}) {
            indices->clear();
        }
        vectors.clear();
    }
};

/// Edges of a whole system, searched afresh.
/// Throws Error: shapes and values `build_neighbor_list` rejects, unknown species, atoms closer
/// than 0.01 Å.
StepEdges system_edges(const System& system, double cutoff, int64_t n_species);

/// Throws Error when the square of a distance is below (0.01 Å)², naming both atoms.
void check_apart(double squared_distance, int64_t a, int64_t b, const int64_t* labels);

/// Throws Error unless the position of each atom with a species is finite.
void check_positions(
    const double* positions, const int32_t* species, int64_t n_atoms, const int64_t* labels
);

} // namespace petmad

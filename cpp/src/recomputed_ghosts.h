// Ghosts that are evaluated here again: which of their edges can matter, and whether all of them
// are here that do.
#pragma once

#include <cstdint>
#include <vector>

#include "petmad/neighbor_list.h"
#include "petmad/types.h"

namespace petmad {

/// The edges whose center is at most `n_hops` edges away from the first `n_owned` atoms.
NeighborList
edges_within_hops(const NeighborList& list, int64_t n_owned, int64_t n_atoms, int64_t n_hops);

/// The reach audit of one list.
class RecomputedGhosts {
public:
    /// `atoms` are the nodes' atoms, owned ones first. Throws Error without `ghost_distances`.
    RecomputedGhosts(
        const DomainView& view, const ModelInfo& model, const std::vector<int64_t>& atoms
    );

    /// Takes the distances of this step.
    void begin_step(const DomainView& view);

    /// Å around the domain of what owned atoms depend on: the neighborhoods of all nodes that are
    /// evaluated, and with adaptive cutoffs of their neighbors. Throws Error when that is deeper
    /// than the ghosts.
    double checked_reach(const std::vector<int64_t>& rings) const;

private:
    double cutoff_ = 0.0;
    double skin_ = 0.0;
    double depth_ = 0.0;
    int64_t last_ring_ = 0;         ///< of those whose neighborhood must be complete
    std::vector<int64_t> atoms_;    ///< [n_nodes]
    std::vector<double> distances_; ///< [n_nodes] Å outside of the domain, 0 for owned
};

} // namespace petmad

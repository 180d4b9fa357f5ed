// What a neighbor search is asked.
#pragma once

#include <array>
#include <cstdint>

namespace petmad {

using Shift = std::array<int64_t, 3>;

struct SearchInput {
    const double* positions = nullptr; ///< [n_atoms, 3] Å, finite
    int64_t n_atoms = 0;
    int64_t n_centers = 0; ///< the first so many atoms have edges
    double cutoff = 0.0;   ///< Å
};

/// Images an edge may lie away from the cell along a direction, in either sense.
constexpr int64_t most_images = 511;

} // namespace petmad

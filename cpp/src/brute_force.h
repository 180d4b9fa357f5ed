// The slow search over all pairs and images, which judges the cell list.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "geometry.h"
#include "search_input.h"

namespace petmad {

struct Edge {
    int64_t center;
    int64_t neighbor;
    Shift shift;
};

/// Appends the edges i -> j in ascending order of shifts.
inline void append_edges(
    const SearchInput& input, const Lattice& lattice, int64_t i, int64_t j, std::vector<Edge>& edges
) {
    Shift low{};
    Shift high{};
    const Vec3 direct = displacement(input.positions, i, j, Shift{}, lattice.rows);
    for (int k = 0; k < 3; ++k) {
        if (lattice.pbc[k]) {
            const double fraction = dot(direct, lattice.reciprocal[k]);
            const double reach = input.cutoff / lattice.heights[k];
            low[k] = static_cast<int64_t>(std::floor(-reach - fraction));
            high[k] = static_cast<int64_t>(std::ceil(reach - fraction));
        }
    }
    for (int64_t a = low[0]; a <= high[0]; ++a) {
        for (int64_t b = low[1]; b <= high[1]; ++b) {
            for (int64_t c = low[2]; c <= high[2]; ++c) {
                const Shift shift{a, b, c};
                const Vec3 vector = displacement(input.positions, i, j, shift, lattice.rows);
                if (dot(vector, vector) <= input.cutoff * input.cutoff
                    && !(i == j && shift == Shift{})) {
                    edges.push_back({i, j, shift});
                }
            }
        }
    }
}

/// All edges, ascending in (center, neighbor, shift).
inline std::vector<Edge> all_edges(const SearchInput& input, const Lattice& lattice) {
    std::vector<Edge> edges;
    for (int64_t i = 0; i < input.n_centers; ++i) {
        for (int64_t j = 0; j < input.n_atoms; ++j) {
            append_edges(input, lattice, i, j, edges);
        }
    }
    return edges;
}

} // namespace petmad

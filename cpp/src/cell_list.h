// The fast search: bin after bin on all threads, then every edge written to its place.
#pragma once

#include <cstdint>
#include <vector>

#include "bin_search.h"
#include "bins.h"
#include "geometry.h"
#include "search_input.h"

namespace petmad {

class CellList {
public:
    /// Finds all edges. Throws Error: see Bins.
    CellList(const SearchInput& input, const Lattice& lattice);

    int64_t n_edges() const { return starts_.back(); }

    /// The edges in ascending order: [n_edges], [n_edges], [n_edges, 3].
    void write(int64_t* centers, int64_t* neighbors, int64_t* shifts) const;

private:
    /// Where the edges of a center are before they are written.
    struct Found {
        const int32_t* neighbors;
        const Image* images; ///< null if all are 0
    };

    void name_rows(int64_t bin);
    void write_shifts(int64_t center, int64_t* shifts) const;

    SearchInput input_;
    Bins bins_;
    std::vector<BinEdges> found_; ///< of each bin
    std::vector<Found> rows_;     ///< of each center
    std::vector<int64_t> starts_; ///< [n_centers + 1] first edge of each center
};

} // namespace petmad

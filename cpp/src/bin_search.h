// The search of one bin: atoms and images within its reach are gathered and sorted once, then each
// center's edges come out in ascending order from one pass over the distances to them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "bins.h"
#include "cpu/search.h"
#include "geometry.h"
#include "search_input.h"

namespace petmad {

/// The edges of a bin's centers, center after center, each center's in ascending order.
struct BinEdges {
    std::vector<int32_t> neighbors;
    std::vector<Image> images; ///< of the neighbors' wrapped positions; none if all are 0
};

/// Coordinates [Å] in whole groups of the search kernels.
struct Cloud {
    std::vector<float> x, y, z;

    /// The last ones, up to a whole group, are out of reach.
    void resize(int64_t n);
    cpu::Points points() const {
        return {x.data(), y.data(), z.data(), static_cast<int64_t>(x.size())};
    }
};

/// Searches one bin after another, in memory that it keeps.
class BinSearch {
public:
    BinSearch(const SearchInput& input, const Lattice& lattice, const Bins& bins);

    /// The edges of a bin's centers, and counts[center] of each center.
    void operator()(int64_t bin, BinEdges& found, int64_t* counts);

private:
    /// Atoms that stand in a row, seen in an image; `begin` is where they stand in `near_`.
    struct Run {
        int64_t first;
        int64_t n;
        Shift image;
        int64_t begin;
    };

    void bound_centers();
    void list_runs(int64_t bin);
    void gather();
    void sort_candidates();
    void find_all(int64_t* counts);
    int64_t find(int64_t at, int64_t self);
    bool is_edge(int64_t center, int32_t slot) const;

    const SearchInput& input_;
    const Lattice& lattice_;
    const Bins& bins_;
    const cpu::SearchKernels& kernels_;
    int n_bits_; ///< of an atom's number

    int64_t first_ = 0; ///< centers of the bin, in the bins' order
    int64_t last_ = 0;
    Vec3 middle_{};               ///< of their box [Å], the origin of what follows
    std::array<float, 3> half_{}; ///< extent of the box on either side
    float sure_ = 0;              ///< squared distances up to here are within the cutoff,
    float limit_ = 0;             ///< those from here beyond it, in spite of float32
    std::vector<Run> runs_;       ///< that may be within reach
    int64_t home_run_ = 0;        ///< the one with the bin itself
    Cloud near_;                  ///< their atoms
    std::vector<int32_t> run_of_; ///< run of each
    std::vector<uint64_t> keys_;  ///< atom << 32 | place in near_, of those near the box, sorted
    std::vector<uint64_t> spare_;
    Cloud candidates_; ///< these atoms
    std::vector<int32_t> atoms_;
    std::vector<Image> images_;  ///< none if all are 0
    std::vector<int32_t> slots_; ///< candidates selected last
    BinEdges edges_;
};

} // namespace petmad

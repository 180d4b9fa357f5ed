#include "cell_list.h"

#include <algorithm>
#include <numeric>

#include <ATen/Parallel.h>

namespace petmad {
namespace {

// A thread works on so many at a time: a bin costs about ten microseconds, a center one.
constexpr int64_t bins_per_task = 8;
constexpr int64_t centers_per_task = 64;

// Centers whose finds are fetched ahead of use: they are where their bins were searched.
constexpr int64_t centers_ahead = 4;

} // namespace

CellList::CellList(const SearchInput& input, const Lattice& lattice)
    : input_(input), bins_(input, lattice), found_(bins_.n_all()), rows_(input.n_centers),
      starts_(input.n_centers + 1, 0) {
    at::parallel_for(0, bins_.n_all(), bins_per_task, [&](int64_t begin, int64_t end) {
        BinSearch search(input_, lattice, bins_);
        for (int64_t bin = begin; bin < end; ++bin) {
            search(bin, found_[bin], starts_.data() + 1);
            name_rows(bin);
        }
    });
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
}

/// Says where the edges of a bin's centers are.
void CellList::name_rows(int64_t bin) {
    const BinEdges& edges = found_[bin];
    const int64_t last = bins_.end_of_centers(bin, input_.n_centers);
    int64_t before = 0;
    for (int64_t at = bins_.starts[bin]; at < last; ++at) {
        const int32_t center = bins_.atoms[at];
        const Image* images = edges.images.empty() ? nullptr : edges.images.data() + before;
        rows_[center] = {edges.neighbors.data() + before, images};
        before += starts_[center + 1]; // still a count
    }
}

void CellList::write(int64_t* centers, int64_t* neighbors, int64_t* shifts) const {
    at::parallel_for(0, input_.n_centers, centers_per_task, [&](int64_t begin, int64_t end) {
        for (int64_t center = begin; center < end; ++center) {
            __builtin_prefetch(rows_[std::min(center + centers_ahead, end - 1)].neighbors);
            const int64_t start = starts_[center];
            const int64_t n = starts_[center + 1] - start;
            std::fill_n(centers + start, n, center);
            std::copy_n(rows_[center].neighbors, n, neighbors + start);
            write_shifts(center, shifts + 3 * start);
        }
    });
}

void CellList::write_shifts(int64_t center, int64_t* shifts) const {
    const Found& row = rows_[center];
    const int64_t n = starts_[center + 1] - starts_[center];
    if (!row.images && bins_.wraps.empty()) {
        std::fill_n(shifts, 3 * n, 0);
        return;
    }
    for (int64_t k = 0; k < n; ++k) {
        const Shift image = row.images ? row.images[k].cells() : Shift{};
        const Shift shift = total_shift(image, bins_.wrap(center), bins_.wrap(row.neighbors[k]));
        std::copy(shift.begin(), shift.end(), shifts + 3 * k);
    }
}

} // namespace petmad

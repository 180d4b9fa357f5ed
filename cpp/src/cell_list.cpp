#include "cell_list.h"

#include <algorithm>
#include <numeric>

#include <ATen/Parallel.h>

namespace petmad {
namespace {

// Bins that a thread works on at a time: a bin costs about ten microseconds.
constexpr int64_t bins_per_task = 8;

/// Where the edges of a center go.
struct Target {
    int64_t* centers;
    int64_t* neighbors;
    int64_t* shifts;
};

void write_center(
    const BinEdges& found, const int32_t* slots, int64_t n, int64_t center, const Shift& wrap,
    const Target& to
) {
    std::fill_n(to.centers, n, center);
    for (int64_t k = 0; k < n; ++k) {
        to.neighbors[k] = found.atoms[slots[k]];
    }
    if (found.shifts.empty()) {
        std::fill_n(to.shifts, 3 * n, 0);
        return;
    }
    for (int64_t k = 0; k < n; ++k) {
        const Shift& shift = found.shifts[slots[k]];
        for (int axis = 0; axis < 3; ++axis) {
            to.shifts[3 * k + axis] = shift[axis] + wrap[axis];
        }
    }
}

} // namespace

CellList::CellList(const SearchInput& input, const Lattice& lattice)
    : input_(input), bins_(input, lattice), found_(bins_.n_all()), starts_(input.n_centers + 1, 0) {
    at::parallel_for(0, bins_.n_all(), bins_per_task, [&](int64_t begin, int64_t end) {
        BinSearch search(input_, lattice, bins_);
        for (int64_t bin = begin; bin < end; ++bin) {
            search(bin, found_[bin], starts_.data() + 1);
        }
    });
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
}

void CellList::write(int64_t* centers, int64_t* neighbors, int64_t* shifts) const {
    at::parallel_for(0, bins_.n_all(), bins_per_task, [&](int64_t begin, int64_t end) {
        for (int64_t bin = begin; bin < end; ++bin) {
            const int32_t* slots = found_[bin].slots.data();
            const int64_t last = bins_.end_of_centers(bin, input_.n_centers);
            for (int64_t at = bins_.starts[bin]; at < last; ++at) {
                const int64_t center = bins_.atoms[at];
                const int64_t start = starts_[center];
                const int64_t n = starts_[center + 1] - start;
                write_center(
                    found_[bin], slots, n, center, bins_.wrap(at),
                    {centers + start, neighbors + start, shifts + 3 * start}
                );
                slots += n;
            }
        }
    });
}

} // namespace petmad

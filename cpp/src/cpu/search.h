// The inner loops of the neighbor search, one table per instruction set.
#pragma once

#include <cstdint>

namespace petmad::cpu {

/// Points are read in whole groups of this many.
constexpr int points_per_group = 16;

/// Coordinates, n a multiple of points_per_group.
struct Points {
    const float* x = nullptr;
    const float* y = nullptr;
    const float* z = nullptr;
    int64_t n = 0;
};

struct Selection {
    int64_t n = 0;
    bool is_sure = true; ///< none of them is in doubt
};

/// Both write the indices of points in ascending order; `to` has room for all and a group more.
struct SearchKernels {
    /// Points whose squared distance from the box is not above the limit; how many.
    int64_t (*near_box)(
        const Points& points, const float* low, const float* high, float limit, int32_t* to
    );
    /// The same of a point; in doubt are those whose squared distance is above `sure`.
    Selection (*near_point)(
        const Points& points, const float* center, float sure, float limit, int32_t* to
    );
};

/// Those of the chosen instruction set.
const SearchKernels& search_kernels();

} // namespace petmad::cpu

// Which of many points are near, a vector of them at a time. Included by search_isa.cpp alone, once
// per instruction set.
#pragma once

#include <cstring>

#include "search.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace petmad::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int group = 16;
#elif defined(__AVX2__)
constexpr int group = 8;
#else
constexpr int group = 4;
#endif
static_assert(points_per_group % group == 0);

typedef float Floats __attribute__((vector_size(4 * group)));

inline Floats floats(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline Floats all(float value) { return Floats{} + value; }

/// Writes first + lane of the lanes with squares <= limit; how many.
inline int64_t append(const Floats& squares, float limit, int32_t first, int32_t* to) {
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __mmask16 near = _mm512_cmp_ps_mask(squares, _mm512_set1_ps(limit), _CMP_LE_OQ);
    const __m512i slots = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(near, slots));
    return __builtin_popcount(near);
#else
    int64_t n = 0;
    for (int lane = 0; lane < group; ++lane) {
        to[n] = first + lane;
        n += squares[lane] <= limit ? 1 : 0;
    }
    return n;
#endif
}

template <typename Square>
int64_t select(const Points& points, const Square& square, float limit, int32_t* to) {
    int64_t n = 0;
    for (int64_t k = 0; k < points.n; k += group) {
        n += append(square(k), limit, static_cast<int32_t>(k), to + n);
    }
    return n;
}

int64_t select_near_box(
    const Points& points, const float* low, const float* high, float limit, int32_t* to
) {
    const auto outside = [&](const float* values, int axis) {
        const Floats x = floats(values);
        const Floats below = all(low[axis]) - x;
        const Floats above = x - all(high[axis]);
        const Floats most = below > above ? below : above;
        return most > 0.0F ? most : Floats{};
    };
    const auto square = [&](int64_t k) {
        const Floats x = outside(points.x + k, 0);
        const Floats y = outside(points.y + k, 1);
        const Floats z = outside(points.z + k, 2);
        return x * x + y * y + z * z;
    };
    return select(points, square, limit, to);
}

Selection
select_near_point(const Points& points, const float* center, float sure, float limit, int32_t* to) {
    Floats largest{};
    const auto square = [&](int64_t k) {
        const Floats x = floats(points.x + k) - all(center[0]);
        const Floats y = floats(points.y + k) - all(center[1]);
        const Floats z = floats(points.z + k) - all(center[2]);
        const Floats squares = x * x + y * y + z * z;
        const Floats inside = squares <= limit ? squares : Floats{};
        largest = inside > largest ? inside : largest;
        return squares;
    };
    const int64_t n = select(points, square, limit, to);
    bool is_sure = true;
    for (int lane = 0; lane < group; ++lane) {
        is_sure = is_sure && largest[lane] <= sure;
    }
    return {n, is_sure};
}

} // namespace
} // namespace petmad::cpu

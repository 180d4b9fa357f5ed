// Matrix products of row blocks with packed weights: c = start + a @ b. Included by
// kernels_isa.cpp alone, once per instruction set.
//
// A tile of rows by two vectors stays in registers while k runs; the packed columns are read in
// order, rows of `a` where they are. One row's sum runs over k in the same order whatever the other
// rows are, so results do not depend on blocks or threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace petmad::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int tile_rows = 12; // 24 sums, two columns and a factor in 32 registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int tile_rows = 6; // 12 sums of 16 registers
#else
constexpr int vector_bytes = 16;
constexpr int tile_rows = 6;
#endif

/// Columns of `b` of which one tile keeps its sums: the next stripe of k starts from them again.
constexpr int64_t stripe = 384;

template <typename T> struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
    static constexpr int size = vector_bytes / static_cast<int>(sizeof(T));
};

template <typename T> using Vector = typename VectorOf<T>::type;

template <typename T> Vector<T> read(const T* from) {
    Vector<T> values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

template <typename T> void write(const Vector<T>& values, T* to) {
    std::memcpy(to, &values, sizeof values);
}

/// Where the sums of a tile start from, and how many of its columns exist.
template <typename T> struct Tile {
    const T* bias; ///< of the first column, or nothing
    bool add;      ///< to what is there
    int64_t n_columns;
    int64_t b_stride = columns_per_panel; ///< from row to row of `b`
};

/// The left factor's numbers of one column after the other: R rows `stride` apart.
template <typename T, int R> struct LeftRows {
    const T* rows[(R + 2) / 3]; // every third: the others are a stride or two away
    int64_t stride;
    LeftRows(const T* a, int64_t a_stride) : stride(a_stride) {
        for (int p = 0; p < (R + 2) / 3; ++p) {
            rows[p] = a + 3 * p * stride;
        }
    }
    T operator[](int r) const { return rows[r / 3][(r % 3) * stride]; }
    void next() {
#pragma GCC unroll 16
        for (int p = 0; p < (R + 2) / 3; ++p) {
            ++rows[p];
        }
    }
    static const T* row(const T* a, int64_t a_stride, int64_t r) { return a + r * a_stride; }
};

/// The same where the transpose is stored: rows lie side by side, columns `stride` apart.
template <typename T, int R> struct LeftColumns {
    const T* column;
    int64_t stride;
    LeftColumns(const T* a, int64_t a_stride) : column(a), stride(a_stride) {}
    T operator[](int r) const { return column[r]; }
    void next() { column += stride; }
    static const T* row(const T* a, int64_t, int64_t r) { return a + r; }
};

/// R rows by V vectors, one or two: c[r] = start + Σ_k a[r][k] b[k].
template <typename T, int R, int V, template <typename, int> class Left>
void multiply_tile(
    const T* a, int64_t a_stride, const T* b, int64_t k, const Tile<T>& tile, T* c, int64_t c_stride
) {
    constexpr int size = VectorOf<T>::size;
    Vector<T> sums[R][V];
    T edge[V * size]; // columns beyond the matrix are not touched
    const bool is_whole = tile.n_columns == V * size;
    const auto begin = [&](const T* from, int r) {
        if (!is_whole) {
            std::fill_n(edge, V * size, T(0));
            std::copy_n(from, tile.n_columns, edge);
            from = edge;
        }
        for (int v = 0; v < V; ++v) {
            sums[r][v] = read(from + v * size);
        }
    };
    for (int r = 0; r < R; ++r) {
        if (tile.add) {
            begin(c + r * c_stride, r);
        } else if (tile.bias) {
            begin(tile.bias, r);
        } else {
            for (int v = 0; v < V; ++v) {
                sums[r][v] = Vector<T>{};
            }
        }
    }
    Left<T, R> left(a, a_stride);
    for (int64_t step = 0; step < k; ++step, b += tile.b_stride, left.next()) {
        const Vector<T> first = read(b);
        const Vector<T> second = read(b + (V - 1) * size);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const T factor = left[r];
            sums[r][0] += factor * first;
            if constexpr (V == 2) {
                sums[r][1] += factor * second;
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        T* to = is_whole ? c + r * c_stride : edge;
        for (int v = 0; v < V; ++v) {
            write(sums[r][v], to + v * size);
        }
        if (!is_whole) {
            std::copy_n(edge, tile.n_columns, c + r * c_stride);
        }
    }
}

/// Of n <= R rows.
template <typename T, int R, int V, template <typename, int> class Left>
void multiply_rows(
    const T* a, int64_t a_stride, int64_t n, const T* b, int64_t k, const Tile<T>& tile, T* c,
    int64_t c_stride
) {
    if constexpr (R > 0) {
        if (n == R) {
            multiply_tile<T, R, V, Left>(a, a_stride, b, k, tile, c, c_stride);
        } else {
            multiply_rows<T, R - 1, V, Left>(a, a_stride, n, b, k, tile, c, c_stride);
        }
    }
}

/// All columns of n rows, of which `a` holds the columns first to first + depth of the matrix.
template <typename T, template <typename, int> class Left = LeftRows>
void multiply_stripe(
    const Product<T>& product, const T* a, int64_t a_stride, int64_t first, int64_t depth,
    int64_t n, T* c
) {
    constexpr int64_t width = 2 * VectorOf<T>::size;
    for (int64_t column = 0; column < product.m; column += width) {
        const int64_t panel = column / columns_per_panel;
        const T* b = product.panels + (panel * product.k + first) * columns_per_panel
                     + column % columns_per_panel;
        const Tile<T> tile{
            product.bias ? product.bias + column : nullptr, product.add || first > 0,
            std::min(width, product.m - column)
        };
        const auto run = tile.n_columns <= VectorOf<T>::size ? multiply_rows<T, tile_rows, 1, Left>
                                                             : multiply_rows<T, tile_rows, 2, Left>;
        for (int64_t row = 0; row < n; row += tile_rows) {
            run(Left<T, 1>::row(a, a_stride, row), a_stride, std::min<int64_t>(tile_rows, n - row),
                b, depth, tile, c + row * product.c_stride + column, product.c_stride);
        }
    }
}

constexpr int64_t most_copied_rows = 8 * tile_rows;

template <typename T> void multiply(const Product<T>& product, const T* a, int64_t n, T* c) {
    // rows that are multiples of half a page apart would evict each other from the first cache
    const bool collide = n > 1 && product.a_stride * sizeof(T) % 2048 == 0;
    static thread_local T copied[most_copied_rows * (stripe + VectorOf<T>::size)];
    const int64_t n_at_once = collide ? most_copied_rows : n;
    for (int64_t row = 0; row < n; row += n_at_once, a += n_at_once * product.a_stride) {
        const int64_t n_rows = std::min(n_at_once, n - row);
        T* result = c + row * product.c_stride;
        for (int64_t first = 0; first < product.k || first == 0; first += stripe) {
            const int64_t depth = std::min(stripe, product.k - first);
            if (!collide) {
                multiply_stripe(product, a + first, product.a_stride, first, depth, n_rows, result);
                continue;
            }
            constexpr int64_t stride = stripe + VectorOf<T>::size;
            for (int64_t r = 0; r < n_rows; ++r) {
                std::copy_n(a + r * product.a_stride + first, depth, copied + r * stride);
            }
            multiply_stripe(product, copied, stride, first, depth, n_rows, result);
        }
    }
}

} // namespace
} // namespace petmad::cpu

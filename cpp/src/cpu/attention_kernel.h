// Attention over ragged tokens, one center at a time: its rows are taken apart into heads once,
// which then stay in the first caches.
// Included by kernels_isa.cpp alone, once per instruction set; therefore nothing here may leave
// a function that the linker could share with code for other processors (no std::vector).
#pragma once

#include <algorithm>
#include <cstdint>

#include "exponential.h"
#include "kernels.h"
#include "product_kernel.h"

namespace petmad::cpu {
namespace {

/// Up to whole vectors.
template <typename T> int64_t padded(int64_t n) {
    constexpr int64_t size = VectorOf<T>::size;
    return (n + size - 1) / size * size;
}

/// Tokens of one center: its own row, then those of its edges.
template <typename T> struct Tokens {
    int64_t center;
    int64_t first_edge; ///< row of it
    int64_t n;          ///< tokens
    int64_t n_padded;   ///< to whole vectors
    int64_t n_heads;
    int64_t d;        ///< width of a head
    int64_t d_padded; ///< to whole vectors
    const T* bias;    ///< [n], of keys

    int64_t row(int64_t t) const { return t == 0 ? center : first_edge + t - 1; }
    /// Numbers of one head: [n, d_padded].
    int64_t head_size() const { return n * d_padded; }
};

template <typename T> Tokens<T> tokens_of(const AttentionInput<T>& input, int64_t i, T* bias) {
    const int64_t n = 1 + input.starts[i + 1] - input.starts[i];
    bias[0] = 0;
    std::copy_n(input.log_weights + input.starts[i], n - 1, bias + 1);
    return {
        i,
        input.n_centers + input.starts[i],
        n,
        padded<T>(n),
        input.n_heads,
        input.d_head,
        padded<T>(input.d_head),
        bias
    };
}

/// heads [n_heads, n, d_padded] = factor * tokens' parts of rows, zeros beyond d.
template <typename T>
void gather(const Tokens<T>& tokens, const T* rows, int64_t stride, T factor, T* heads) {
    constexpr int64_t size = VectorOf<T>::size;
    const bool is_whole = tokens.d == tokens.d_padded;
    for (int64_t t = 0; t < tokens.n; ++t) {
        const T* from = rows + tokens.row(t) * stride;
        T* to = heads + t * tokens.d_padded;
        for (int64_t h = 0; h < tokens.n_heads; ++h, from += tokens.d, to += tokens.head_size()) {
            if (is_whole) {
                for (int64_t k = 0; k < tokens.d; k += size) {
                    write<T>(factor * read(from + k), to + k);
                }
            } else {
                for (int64_t k = 0; k < tokens.d_padded; ++k) {
                    to[k] = k < tokens.d ? factor * from[k] : T(0);
                }
            }
        }
    }
}

/// The other way.
template <typename T>
void scatter(const Tokens<T>& tokens, const T* heads, T factor, int64_t stride, T* rows) {
    constexpr int64_t size = VectorOf<T>::size;
    const bool is_whole = tokens.d == tokens.d_padded;
    for (int64_t t = 0; t < tokens.n; ++t) {
        const T* from = heads + t * tokens.d_padded;
        T* to = rows + tokens.row(t) * stride;
        for (int64_t h = 0; h < tokens.n_heads; ++h, from += tokens.head_size(), to += tokens.d) {
            if (is_whole) {
                for (int64_t k = 0; k < tokens.d; k += size) {
                    write<T>(factor * read(from + k), to + k);
                }
            } else {
                for (int64_t k = 0; k < tokens.d; ++k) {
                    to[k] = factor * from[k];
                }
            }
        }
    }
}

/// out [d, n_padded] = transpose of one head's rows, zeros beyond n.
template <typename T> void turn(const Tokens<T>& tokens, const T* rows, T* out) {
    for (int64_t d = 0; d < tokens.d; ++d, out += tokens.n_padded) {
        for (int64_t t = 0; t < tokens.n; ++t) {
            out[t] = rows[t * tokens.d_padded + d];
        }
        for (int64_t t = tokens.n; t < tokens.n_padded; ++t) {
            out[t] = 0;
        }
    }
}

/// c = a @ b, dense matrices whose rows are whole vectors: a [n, k], b [k, m].
template <typename T, template <typename, int> class Left>
void multiply_dense(
    const T* a, int64_t a_stride, int64_t n, int64_t k, const T* b, int64_t m, T* c
) {
    constexpr int64_t size = VectorOf<T>::size;
    for (int64_t column = 0; column < m; column += 2 * size) {
        const int64_t here = std::min(2 * size, m - column);
        const Tile<T> tile{nullptr, false, here, m};
        const auto run = here == size ? multiply_rows<T, tile_rows, 1, Left>
                                      : multiply_rows<T, tile_rows, 2, Left>;
        for (int64_t row = 0; row < n; row += tile_rows) {
            run(Left<T, 1>::row(a, a_stride, row), a_stride, std::min<int64_t>(tile_rows, n - row),
                b + column, k, tile, c + row * m + column, m);
        }
    }
}

/// Scores [n keys, n_padded queries] become probabilities: sums run down the columns, a vector of
/// queries at a time.
template <typename T> void softmax(const Tokens<T>& tokens, T* scores) {
    constexpr int size = VectorOf<T>::size;
    for (int64_t block = 0; block < tokens.n_padded; block += size) {
        T highs[size];
        T sums[size] = {};
        std::fill_n(highs, size, T(-1e30)); // far below any score, and finite
        for (int64_t u = 0; u < tokens.n; ++u) {
            T* s = scores + u * tokens.n_padded + block;
            const T bias = tokens.bias[u];
#pragma omp simd
            for (int t = 0; t < size; ++t) {
                s[t] += bias;
                highs[t] = s[t] > highs[t] ? s[t] : highs[t];
            }
        }
        for (int64_t u = 0; u < tokens.n; ++u) {
            T* s = scores + u * tokens.n_padded + block;
#pragma omp simd
            for (int t = 0; t < size; ++t) {
                s[t] = exponential(s[t] - highs[t]);
                sums[t] += s[t];
            }
        }
#pragma omp simd
        for (int t = 0; t < size; ++t) {
            sums[t] = T(1) / sums[t];
        }
        const Vector<T> scale = read(sums);
        for (int64_t u = 0; u < tokens.n; ++u) {
            T* s = scores + u * tokens.n_padded + block;
            write<T>(scale * read(s), s);
        }
    }
}

/// ds [n keys, n_padded queries] becomes p (ds - Σ p ds), sums running down the columns; d_bias +=
/// sums along the rows.
template <typename T> void softmax_backward(const Tokens<T>& tokens, const T* p, T* ds, T* d_bias) {
    constexpr int size = VectorOf<T>::size;
    for (int64_t block = 0; block < tokens.n_padded; block += size) {
        Vector<T> dots{};
        for (int64_t u = 0; u < tokens.n; ++u) {
            const int64_t row = u * tokens.n_padded + block;
            dots += read(p + row) * read(ds + row);
        }
        for (int64_t u = 0; u < tokens.n; ++u) {
            const int64_t row = u * tokens.n_padded + block;
            write<T>(read(p + row) * (read(ds + row) - dots), ds + row);
        }
    }
    for (int64_t u = 0; u < tokens.n; ++u) {
        const T* row = ds + u * tokens.n_padded;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t t = 0; t < tokens.n; ++t) {
            sum += row[t];
        }
        d_bias[u] += sum;
    }
}

/// p [n keys, n_padded queries] of queries (scaled) and keys [n, d_padded]; room: [d, n_padded].
template <typename T>
void probabilities(const Tokens<T>& tokens, const T* queries, const T* keys, T* room, T* p) {
    turn(tokens, queries, room);
    multiply_dense<T, LeftRows>(
        keys, tokens.d_padded, tokens.n, tokens.d, room, tokens.n_padded, p
    );
    softmax(tokens, p);
}

/// Pieces of the scratch, in the order they are asked for.
template <typename T> struct Pieces {
    T* next;
    T* take(int64_t n) {
        T* piece = next;
        next += (n + lanes<T> - 1) / lanes<T> * lanes<T>;
        return piece;
    }
};

template <typename T>
void attention(const AttentionInput<T>& input, int64_t first, int64_t last, T* mixed) {
    const int64_t width = input.n_heads * input.d_head;
    const int64_t most = input.most_tokens;
    const int64_t all = most * input.n_heads * padded<T>(input.d_head);
    Pieces<T> pieces{input.scratch};
    T* bias = pieces.take(most);
    T* queries = pieces.take(all);
    T* keys = pieces.take(all);
    T* values = pieces.take(all);
    T* turned = pieces.take(most * input.d_head);
    T* p = pieces.take(most * most);
    for (int64_t i = first; i < last; ++i) {
        const Tokens<T> tokens = tokens_of(input, i, bias);
        gather(tokens, input.qkv, 3 * width, input.scale, queries);
        gather(tokens, input.qkv + width, 3 * width, T(1), keys);
        gather(tokens, input.qkv + 2 * width, 3 * width, T(1), values);
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const int64_t at = h * tokens.head_size();
            probabilities(tokens, queries + at, keys + at, turned, p);
            // mixed takes the place of the queries
            multiply_dense<T, LeftColumns>(
                p, tokens.n_padded, tokens.n, tokens.n, values + at, tokens.d_padded, queries + at
            );
        }
        scatter(tokens, queries, T(1), width, mixed);
    }
}

template <typename T>
void attention_backward(
    const AttentionInput<T>& input, const T* d_mixed, int64_t first, int64_t last, T* d_qkv,
    T* d_log_weights
) {
    const int64_t width = input.n_heads * input.d_head;
    const int64_t most = input.most_tokens;
    const int64_t d_padded = padded<T>(input.d_head);
    const int64_t all = most * input.n_heads * d_padded;
    Pieces<T> pieces{input.scratch};
    T* bias = pieces.take(most);
    T* d_bias = pieces.take(most);
    T* queries = pieces.take(all);
    T* keys = pieces.take(all);
    T* values = pieces.take(all);
    T* d_out = pieces.take(all);
    T* turned = pieces.take(most * input.d_head);
    T* p = pieces.take(most * most);
    T* ds = pieces.take(most * most);
    for (int64_t i = first; i < last; ++i) {
        const Tokens<T> tokens = tokens_of(input, i, bias);
        std::fill_n(d_bias, tokens.n, T(0));
        gather(tokens, input.qkv, 3 * width, input.scale, queries);
        gather(tokens, input.qkv + width, 3 * width, T(1), keys);
        gather(tokens, input.qkv + 2 * width, 3 * width, T(1), values);
        gather(tokens, d_mixed, width, T(1), d_out);
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const int64_t at = h * tokens.head_size();
            const int64_t n = tokens.n;
            const int64_t n_padded = tokens.n_padded;
            probabilities(tokens, queries + at, keys + at, turned, p);
            // d_p = v @ d_outᵀ, keys down, queries across
            turn(tokens, d_out + at, turned);
            multiply_dense<T, LeftRows>(values + at, d_padded, n, tokens.d, turned, n_padded, ds);
            softmax_backward(tokens, p, ds, d_bias);
            // d_v = p @ d_out, d_k = d_s @ q (the scale being in q), d_q = scale d_sᵀ @ k: each
            // takes the place of what is not needed any more
            multiply_dense<T, LeftRows>(p, n_padded, n, n, d_out + at, d_padded, values + at);
            multiply_dense<T, LeftRows>(ds, n_padded, n, n, queries + at, d_padded, d_out + at);
            multiply_dense<T, LeftColumns>(ds, n_padded, n, n, keys + at, d_padded, queries + at);
        }
        scatter(tokens, queries, input.scale, 3 * width, d_qkv);
        scatter(tokens, d_out, T(1), 3 * width, d_qkv + width);
        scatter(tokens, values, T(1), 3 * width, d_qkv + 2 * width);
        std::copy_n(d_bias + 1, tokens.n - 1, d_log_weights + input.starts[i]);
    }
}

} // namespace
} // namespace petmad::cpu

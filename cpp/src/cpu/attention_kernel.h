// Attention over ragged tokens, one center and head at a time, all in first-level cache.
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
template <typename T> int64_t padded(int64_t n) { return (n + lanes<T> - 1) / lanes<T> * lanes<T>; }

/// Packed row of token t of center i.
template <typename T> int64_t token_row(const AttentionInput<T>& input, int64_t i, int64_t t) {
    return t == 0 ? i : input.n_centers + input.starts[i] + t - 1;
}

/// Tokens of one center and one head, as the products want them.
template <typename T> struct Head {
    int64_t n;        ///< tokens
    int64_t n_padded; ///< to whole vectors
    int64_t d;        ///< width
    const T* bias;    ///< [n], of keys
};

/// out [n, d] = factor * token rows of one head.
template <typename T>
void gather(
    const AttentionInput<T>& input, int64_t i, int64_t n, const T* rows, int64_t stride, T factor,
    T* out
) {
    for (int64_t t = 0; t < n; ++t, out += input.d_head) {
        const T* row = rows + token_row(input, i, t) * stride;
#pragma omp simd
        for (int64_t d = 0; d < input.d_head; ++d) {
            out[d] = factor * row[d];
        }
    }
}

template <typename T>
void scatter(
    const AttentionInput<T>& input, int64_t i, int64_t n, const T* from, int64_t stride, T* rows
) {
    for (int64_t t = 0; t < n; ++t, from += input.d_head) {
        std::copy_n(from, input.d_head, rows + token_row(input, i, t) * stride);
    }
}

/// Panels of a dense matrix [n, width], zeros beyond its columns to whole vectors.
template <typename T> void pack_rows(const T* from, int64_t n, int64_t width, T* panels) {
    for (int64_t first = 0; first < width; first += columns_per_panel) {
        const int64_t here = std::min(columns_per_panel, width - first);
        for (int64_t t = 0; t < n; ++t, panels += columns_per_panel) {
            std::copy_n(from + t * width + first, here, panels);
            std::fill(panels + here, panels + padded<T>(here), T(0));
        }
    }
}

/// Panels of the transpose of a dense matrix [n, width], zeros beyond n to whole vectors.
template <typename T> void pack_columns(const T* from, int64_t n, int64_t width, T* panels) {
    for (int64_t first = 0; first < n; first += columns_per_panel) {
        const int64_t here = std::min(columns_per_panel, n - first);
        for (int64_t d = 0; d < width; ++d, panels += columns_per_panel) {
            for (int64_t t = 0; t < here; ++t) {
                panels[t] = from[(first + t) * width + d];
            }
            std::fill(panels + here, panels + padded<T>(here), T(0));
        }
    }
}

/// out[u, t] = from[t, u] of rows n_padded long, of which n exist.
template <typename T> void transpose(const Head<T>& head, const T* from, T* out) {
    for (int64_t t = 0; t < head.n; ++t, from += head.n_padded) {
        for (int64_t u = 0; u < head.n; ++u) {
            out[u * head.n_padded + t] = from[u];
        }
    }
}

/// c [n, m] = a [n, k] @ panels
template <typename T>
void multiply_dense(
    const T* a, int64_t a_stride, int64_t n, int64_t k, const T* b, int64_t m, T* c
) {
    Product<T> product;
    product.panels = b;
    product.k = k;
    product.m = m;
    product.a_stride = a_stride;
    product.c_stride = m;
    multiply(product, a, n, c);
}

/// Scores [n keys, n_padded queries] become probabilities: sums run down the columns, a vector of
/// queries at a time.
template <typename T> void softmax(const Head<T>& head, T* scores) {
    for (int64_t block = 0; block < head.n_padded; block += lanes<T>) {
        T highs[lanes<T>];
        T sums[lanes<T>] = {};
        std::fill_n(highs, lanes<T>, T(-1e30)); // far below any score, and finite
        for (int64_t u = 0; u < head.n; ++u) {
            T* s = scores + u * head.n_padded + block;
            const T bias = head.bias[u];
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                s[t] += bias;
                highs[t] = s[t] > highs[t] ? s[t] : highs[t];
            }
        }
        for (int64_t u = 0; u < head.n; ++u) {
            T* s = scores + u * head.n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                s[t] = exponential(s[t] - highs[t]);
                sums[t] += s[t];
            }
        }
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            sums[t] = T(1) / sums[t];
        }
        for (int64_t u = 0; u < head.n; ++u) {
            T* s = scores + u * head.n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                s[t] *= sums[t];
            }
        }
    }
}

/// ds [n keys, n_padded queries] becomes p (ds - Σ p ds), sums running down the columns.
template <typename T> void softmax_backward(const Head<T>& head, const T* p, T* ds) {
    for (int64_t block = 0; block < head.n_padded; block += lanes<T>) {
        T dots[lanes<T>] = {};
        for (int64_t u = 0; u < head.n; ++u) {
            const int64_t row = u * head.n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                dots[t] += p[row + t] * ds[row + t];
            }
        }
        for (int64_t u = 0; u < head.n; ++u) {
            const int64_t row = u * head.n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                ds[row + t] = p[row + t] * (ds[row + t] - dots[t]);
            }
        }
    }
}

template <typename T> Head<T> head_of(const AttentionInput<T>& input, int64_t i, T* bias) {
    const int64_t n = 1 + input.starts[i + 1] - input.starts[i];
    bias[0] = 0;
    std::copy_n(input.log_weights + input.starts[i], n - 1, bias + 1);
    return {n, padded<T>(n), input.d_head, bias};
}

/// p [n keys, n_padded queries] of queries (scaled) and keys [n, d]; room: [d, n_padded].
template <typename T>
void probabilities(const Head<T>& head, const T* queries, const T* keys, T* room, T* p) {
    pack_columns(queries, head.n, head.d, room);
    multiply_dense(keys, head.d, head.n, head.d, room, head.n_padded, p);
    softmax(head, p);
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
    const int64_t stride = 3 * width;
    const int64_t most = input.most_tokens;
    const int64_t d_most =
        (input.d_head + columns_per_panel - 1) / columns_per_panel * columns_per_panel;
    Pieces<T> pieces{input.scratch};
    T* bias = pieces.take(most);
    T* rows = pieces.take(most * input.d_head);
    T* more_rows = pieces.take(most * input.d_head);
    T* panels = pieces.take(most * d_most);
    T* p = pieces.take(most * most);
    T* turned = pieces.take(most * most);
    for (int64_t i = first; i < last; ++i) {
        const Head<T> head = head_of(input, i, bias);
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const T* query = input.qkv + h * input.d_head;
            gather(input, i, head.n, query, stride, input.scale, rows);
            gather(input, i, head.n, query + width, stride, T(1), more_rows);
            probabilities(head, rows, more_rows, panels, p);
            gather(input, i, head.n, query + 2 * width, stride, T(1), rows);
            pack_rows(rows, head.n, head.d, panels);
            transpose(head, p, turned);
            multiply_dense(turned, head.n_padded, head.n, head.n, panels, head.d, rows);
            scatter(input, i, head.n, rows, width, mixed + h * input.d_head);
        }
    }
}

template <typename T>
void attention_backward(
    const AttentionInput<T>& input, const T* d_mixed, int64_t first, int64_t last, T* d_qkv,
    T* d_log_weights
) {
    const int64_t width = input.n_heads * input.d_head;
    const int64_t stride = 3 * width;
    const int64_t most = input.most_tokens;
    const int64_t d_most =
        (input.d_head + columns_per_panel - 1) / columns_per_panel * columns_per_panel;
    Pieces<T> pieces{input.scratch};
    T* bias = pieces.take(most);
    T* d_bias = pieces.take(most);
    T* queries = pieces.take(most * input.d_head);
    T* keys = pieces.take(most * input.d_head);
    T* rows = pieces.take(most * input.d_head);
    T* panels = pieces.take(most * d_most);
    T* p = pieces.take(most * most);
    T* ds = pieces.take(most * most);
    for (int64_t i = first; i < last; ++i) {
        const Head<T> head = head_of(input, i, bias);
        std::fill_n(d_bias, head.n, T(0));
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const T* query = input.qkv + h * input.d_head;
            const T* d_out = d_mixed + h * input.d_head;
            T* d_query = d_qkv + h * input.d_head;
            gather(input, i, head.n, query, stride, input.scale, queries);
            gather(input, i, head.n, query + width, stride, T(1), keys);
            probabilities(head, queries, keys, panels, p);

            // d_p = v @ d_outᵀ, keys down, queries across
            gather(input, i, head.n, d_out, width, T(1), rows);
            pack_columns(rows, head.n, head.d, panels);
            gather(input, i, head.n, query + 2 * width, stride, T(1), rows);
            multiply_dense(rows, head.d, head.n, head.d, panels, head.n_padded, ds);
            softmax_backward(head, p, ds);
            // d_v = p @ d_out
            gather(input, i, head.n, d_out, width, T(1), rows);
            pack_rows(rows, head.n, head.d, panels);
            multiply_dense(p, head.n_padded, head.n, head.n, panels, head.d, rows);
            scatter(input, i, head.n, rows, stride, d_query + 2 * width);
            // d_k = d_s @ q, the scale being in q
            pack_rows(queries, head.n, head.d, panels);
            multiply_dense(ds, head.n_padded, head.n, head.n, panels, head.d, rows);
            scatter(input, i, head.n, rows, stride, d_query + width);
            // d_q = scale d_sᵀ @ k, and d_bias is the sum over queries
            T* turned = p;
            transpose(head, ds, turned);
            for (int64_t t = 0; t < head.n; ++t) {
#pragma omp simd
                for (int64_t u = 0; u < head.n; ++u) {
                    d_bias[u] += turned[t * head.n_padded + u];
                }
            }
            for (int64_t k = 0; k < head.n * head.d; ++k) {
                keys[k] *= input.scale;
            }
            pack_rows(keys, head.n, head.d, panels);
            multiply_dense(turned, head.n_padded, head.n, head.n, panels, head.d, rows);
            scatter(input, i, head.n, rows, stride, d_query);
        }
        std::copy_n(d_bias + 1, head.n - 1, d_log_weights + input.starts[i]);
    }
}

} // namespace
} // namespace petmad::cpu

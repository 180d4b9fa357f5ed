// Attention over ragged tokens, one center and head at a time, all in first-level cache.
// Included by kernels_isa.cpp alone, once per instruction set; therefore nothing here may leave
// a function that the linker could share with code for other processors (no std::vector).
#pragma once

#include <algorithm>
#include <cstdint>

#include "exponential.h"
#include "kernels.h"

namespace petmad::cpu {
namespace {

/// Scores of padding: far below any, and finite.
template <typename T> constexpr T no_score = T(-1e30);

template <typename T> int64_t padded(int64_t n_tokens) {
    return (n_tokens + lanes<T> - 1) / lanes<T> * lanes<T>;
}

/// Packed row of token t of center i.
template <typename T> int64_t token_row(const AttentionInput<T>& input, int64_t i, int64_t t) {
    return t == 0 ? i : input.n_centers + input.starts[i] + t - 1;
}

/// columns[d][t] = rows of one head, transposed; padding is 0.
template <typename T, int64_t D>
void transpose(
    const AttentionInput<T>& input, int64_t i, int64_t n, int64_t n_padded, const T* head,
    int64_t stride, int64_t d_head, T* columns
) {
    const int64_t width = D > 0 ? D : d_head;
    for (int64_t t = 0; t < n; ++t) {
        const T* row = head + token_row(input, i, t) * stride;
        for (int64_t d = 0; d < width; ++d) {
            columns[d * n_padded + t] = row[d];
        }
    }
    for (int64_t d = 0; d < width; ++d) {
        std::fill(columns + d * n_padded + n, columns + (d + 1) * n_padded, T(0));
    }
}

template <typename T> T sum_of(const T* sums) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < lanes<T>; ++t) {
        sum += sums[t];
    }
    return sum;
}

/// out[t] = Σ_d row[d] columns[d][t]
template <typename T, int64_t D>
void project(const T* row, const T* columns, int64_t n_padded, int64_t d_head, T* out) {
    const int64_t width = D > 0 ? D : d_head;
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        T sums[lanes<T>] = {};
        for (int64_t d = 0; d < width; ++d) {
            const T factor = row[d];
            const T* column = columns + d * n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                sums[t] += factor * column[t];
            }
        }
        std::copy(sums, sums + lanes<T>, out + block);
    }
}

/// scores become probabilities. Blocks of constant length, so that each is one vector.
template <typename T> void softmax(T* scores, const T* bias, T scale, int64_t n_padded) {
    T highs[lanes<T>];
    std::fill_n(highs, lanes<T>, no_score<T>);
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        T* s = scores + block;
        const T* b = bias + block;
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            s[t] = s[t] * scale + b[t];
            highs[t] = s[t] > highs[t] ? s[t] : highs[t];
        }
    }
    T highest = no_score<T>;
#pragma omp simd reduction(max : highest)
    for (int64_t t = 0; t < lanes<T>; ++t) {
        highest = highs[t] > highest ? highs[t] : highest;
    }
    T sums[lanes<T>] = {};
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        T* s = scores + block;
        const T* b = bias + block;
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            s[t] = b[t] > T(-1e29) ? exponential(s[t] - highest) : T(0);
            sums[t] += s[t];
        }
    }
    const T factor = T(1) / sum_of(sums);
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        T* s = scores + block;
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            s[t] *= factor;
        }
    }
}

template <typename T>
void fill_bias(const AttentionInput<T>& input, int64_t i, int64_t n, int64_t n_padded, T* bias) {
    bias[0] = 0;
    std::copy_n(input.log_weights + input.starts[i], n - 1, bias + 1);
    std::fill(bias + n, bias + n_padded, no_score<T>);
}

/// out[d] = factor Σ_t p[t] rows[t][d], rows being tokens of one head
template <typename T, int64_t D>
void mix(
    const AttentionInput<T>& input, int64_t i, int64_t n, const T* p, const T* head, int64_t stride,
    T factor, T* out
) {
    if constexpr (D > 0) {
        T sums[D] = {};
        for (int64_t t = 0; t < n; ++t) {
            const T* row = head + token_row(input, i, t) * stride;
#pragma omp simd
            for (int64_t d = 0; d < D; ++d) {
                sums[d] += p[t] * row[d];
            }
        }
        for (int64_t d = 0; d < D; ++d) {
            out[d] = factor * sums[d];
        }
    } else {
        for (int64_t d = 0; d < input.d_head; ++d) {
            T sum = 0;
            for (int64_t t = 0; t < n; ++t) {
                sum += p[t] * head[token_row(input, i, t) * stride + d];
            }
            out[d] = factor * sum;
        }
    }
}

template <typename T, int64_t D>
void attention_of(const AttentionInput<T>& input, int64_t first, int64_t last, T* mixed) {
    const int64_t width = input.n_heads * input.d_head;
    const int64_t stride = 3 * width;
    T* keys = input.scratch;
    T* p = keys + input.d_head * input.most_tokens;
    T* bias = p + input.most_tokens;
    for (int64_t i = first; i < last; ++i) {
        const int64_t n = 1 + input.starts[i + 1] - input.starts[i];
        const int64_t n_padded = padded<T>(n);
        fill_bias(input, i, n, n_padded, bias);
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const T* query = input.qkv + h * input.d_head;
            transpose<T, D>(input, i, n, n_padded, query + width, stride, input.d_head, keys);
            for (int64_t t = 0; t < n; ++t) {
                const int64_t row = token_row(input, i, t);
                project<T, D>(query + row * stride, keys, n_padded, input.d_head, p);
                softmax(p, bias, input.scale, n_padded);
                mix<T, D>(
                    input, i, n, p, query + 2 * width, stride, T(1),
                    mixed + row * width + h * input.d_head
                );
            }
        }
    }
}

/// Room for the backward pass of one center and head.
template <typename T> struct BackwardScratch {
    T *keys, *values, *d_keys, *d_values, *p, *ds, *bias, *d_bias;
    explicit BackwardScratch(const AttentionInput<T>& input) {
        const int64_t block = input.d_head * input.most_tokens;
        keys = input.scratch;
        values = keys + block;
        d_keys = values + block;
        d_values = d_keys + block;
        p = d_values + block;
        ds = p + input.most_tokens;
        bias = ds + input.most_tokens;
        d_bias = bias + input.most_tokens;
    }
};

/// One query: its probabilities again, then the adjoints of its scores, left in s.ds, and its
/// share of those of keys and values.
template <typename T, int64_t D>
void attend_backward(
    const AttentionInput<T>& input, int64_t n_padded, const T* query, const T* d_out,
    const BackwardScratch<T>& s
) {
    const int64_t width = D > 0 ? D : input.d_head;
    project<T, D>(query, s.keys, n_padded, width, s.p);
    softmax(s.p, s.bias, input.scale, n_padded);
    project<T, D>(d_out, s.values, n_padded, width, s.ds);
    T dots[lanes<T>] = {};
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        const T *p = s.p + block, *ds = s.ds + block;
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            dots[t] += p[t] * ds[t];
        }
    }
    const T dot = sum_of(dots);
    for (int64_t block = 0; block < n_padded; block += lanes<T>) {
        T p[lanes<T>], ds[lanes<T>]; // stay in registers along d
#pragma omp simd
        for (int64_t t = 0; t < lanes<T>; ++t) {
            p[t] = s.p[block + t];
            ds[t] = p[t] * (s.ds[block + t] - dot);
            s.ds[block + t] = ds[t];
            s.d_bias[block + t] += ds[t];
        }
        for (int64_t d = 0; d < width; ++d) {
            const T q = query[d] * input.scale;
            const T g = d_out[d];
            T* d_key = s.d_keys + d * n_padded + block;
            T* d_value = s.d_values + d * n_padded + block;
#pragma omp simd
            for (int64_t t = 0; t < lanes<T>; ++t) {
                d_key[t] += q * ds[t];
                d_value[t] += g * p[t];
            }
        }
    }
}

template <typename T, int64_t D>
void attention_backward_of(
    const AttentionInput<T>& input, const T* d_mixed, int64_t first, int64_t last, T* d_qkv,
    T* d_log_weights
) {
    const int64_t width = input.n_heads * input.d_head;
    const int64_t stride = 3 * width;
    BackwardScratch<T> s(input);
    for (int64_t i = first; i < last; ++i) {
        const int64_t n = 1 + input.starts[i + 1] - input.starts[i];
        const int64_t n_padded = padded<T>(n);
        fill_bias(input, i, n, n_padded, s.bias);
        std::fill_n(s.d_bias, n_padded, T(0));
        for (int64_t h = 0; h < input.n_heads; ++h) {
            const T* query = input.qkv + h * input.d_head;
            T* d_query = d_qkv + h * input.d_head;
            const auto columns = [&](const T* head, T* out) {
                transpose<T, D>(input, i, n, n_padded, head, stride, input.d_head, out);
            };
            columns(query + width, s.keys);
            columns(query + 2 * width, s.values);
            std::fill_n(s.d_keys, input.d_head * n_padded, T(0));
            std::fill_n(s.d_values, input.d_head * n_padded, T(0));
            for (int64_t t = 0; t < n; ++t) {
                const int64_t row = token_row(input, i, t);
                attend_backward<T, D>(
                    input, n_padded, query + row * stride, d_mixed + row * width + h * input.d_head,
                    s
                );
                mix<T, D>(
                    input, i, n, s.ds, query + width, stride, input.scale, d_query + row * stride
                );
            }
            for (int64_t t = 0; t < n; ++t) {
                T* row = d_query + token_row(input, i, t) * stride;
                for (int64_t d = 0; d < input.d_head; ++d) {
                    row[width + d] = s.d_keys[d * n_padded + t];
                    row[2 * width + d] = s.d_values[d * n_padded + t];
                }
            }
        }
        std::copy_n(s.d_bias + 1, n - 1, d_log_weights + input.starts[i]);
    }
}

template <typename T>
void attention(const AttentionInput<T>& input, int64_t first, int64_t last, T* mixed) {
    switch (input.d_head) {
    case 16:
        return attention_of<T, 16>(input, first, last, mixed);
    case 32:
        return attention_of<T, 32>(input, first, last, mixed);
    case 48:
        return attention_of<T, 48>(input, first, last, mixed);
    case 64:
        return attention_of<T, 64>(input, first, last, mixed);
    default:
        return attention_of<T, 0>(input, first, last, mixed);
    }
}

template <typename T>
void attention_backward(
    const AttentionInput<T>& input, const T* d_mixed, int64_t first, int64_t last, T* d_qkv,
    T* d_log_weights
) {
    switch (input.d_head) {
    case 16:
        return attention_backward_of<T, 16>(input, d_mixed, first, last, d_qkv, d_log_weights);
    case 32:
        return attention_backward_of<T, 32>(input, d_mixed, first, last, d_qkv, d_log_weights);
    case 48:
        return attention_backward_of<T, 48>(input, d_mixed, first, last, d_qkv, d_log_weights);
    case 64:
        return attention_backward_of<T, 64>(input, d_mixed, first, last, d_qkv, d_log_weights);
    default:
        return attention_backward_of<T, 0>(input, d_mixed, first, last, d_qkv, d_log_weights);
    }
}

} // namespace
} // namespace petmad::cpu

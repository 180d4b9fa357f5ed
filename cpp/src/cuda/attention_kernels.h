// Attention among the tokens of each center: one warp per center and head, 32 tokens at a time.
//
// Forward and the queries' backward pass have a lane per query and walk through keys and values in
// shared memory, which all lanes read alike; the keys' backward pass is the same with the roles
// swapped. Scores live in registers alone: the backward pass makes them again from the logarithm
// of each query's sum, as Dao (arXiv:2307.08691) does, without adding anything atomically.
// Heads narrower than the D compiled for are padded with zeros on loading.
#pragma once

#include "kernels.h"
#include "launch.h"

namespace petmad::cuda {
namespace {

constexpr int tile = warp_size; ///< tokens in shared memory at a time
constexpr int group = 4;        ///< keys per update of the running maximum

/// One token's share of a head, in registers.
template <typename T, int D> struct Head {
    T values[D];
};

/// Query states of the streaming softmax.
template <typename T, int D> struct Softmax {
    T mixed[D];
    T highest;
    T sum;
};

template <typename T, int D> PETMAD_KERNEL T dot(const Head<T, D>& a, const T* b) {
    T sums[4] = {T(0), T(0), T(0), T(0)};
    const auto* packs = reinterpret_cast<const Pack<T>*>(b);
#if defined(__CUDACC__)
#pragma unroll
#endif
    for (int p = 0; p < D / Pack<T>::size; ++p) {
        const Pack<T> pack = packs[p];
        for (int k = 0; k < Pack<T>::size; ++k) {
            sums[k] += a.values[p * Pack<T>::size + k] * pack.values[k];
        }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// a += factor b
template <typename T, int D> PETMAD_KERNEL void add(T* a, T factor, const T* b) {
    const auto* packs = reinterpret_cast<const Pack<T>*>(b);
#if defined(__CUDACC__)
#pragma unroll
#endif
    for (int p = 0; p < D / Pack<T>::size; ++p) {
        const Pack<T> pack = packs[p];
        for (int k = 0; k < Pack<T>::size; ++k) {
            a[p * Pack<T>::size + k] += factor * pack.values[k];
        }
    }
}

/// One center and head.
template <typename T, int D> struct Place {
    Tokens<T> in;
    int64_t center;
    int head;
    int64_t n; ///< tokens

    PETMAD_KERNEL Place(const Tokens<T>& tokens, int64_t item)
        : in(tokens), center(item / tokens.n_heads), head(static_cast<int>(item % tokens.n_heads)),
          n(1 + tokens.starts[center + 1] - tokens.starts[center]) {}

    /// Packed row of a token.
    PETMAD_KERNEL int64_t row(int64_t token) const {
        return token == 0 ? center : in.n_centers + in.starts[center] + token - 1;
    }
    PETMAD_KERNEL int64_t width() const { return static_cast<int64_t>(in.n_heads) * in.d_head; }
    /// Where a token's query (0), key (1) or value (2) begins in qkv.
    PETMAD_KERNEL int64_t qkv(int64_t token, int which) const {
        return (row(token) * 3 + which) * width() + static_cast<int64_t>(head) * in.d_head;
    }
    /// Where its part of mixed begins.
    PETMAD_KERNEL int64_t mixed(int64_t token) const {
        return row(token) * width() + static_cast<int64_t>(head) * in.d_head;
    }
    /// Where its number per head is.
    PETMAD_KERNEL int64_t number(int64_t token) const { return row(token) * in.n_heads + head; }
    PETMAD_KERNEL T bias(int64_t token) const {
        return token == 0 ? T(0) : in.log_weights[in.starts[center] + token - 1];
    }

    PETMAD_KERNEL Head<T, D> load(const T* from) const {
        Head<T, D> loaded;
#if defined(__CUDACC__)
#pragma unroll
#endif
        for (int d = 0; d < D; ++d) {
            loaded.values[d] = d < in.d_head ? from[d] : T(0);
        }
        return loaded;
    }

    PETMAD_KERNEL void store(const T* values, T factor, T* to) const {
#if defined(__CUDACC__)
#pragma unroll
#endif
        for (int d = 0; d < D; ++d) {
            if (d < in.d_head) {
                to[d] = factor * values[d];
            }
        }
    }

    /// tokens first to first + tile - 1 of an array, rows beyond the last one 0. offset(token) is
    /// where a token begins.
    template <typename Offset>
    PETMAD_KERNEL void
    fill_tile(int lane, int64_t first, const T* from, const Offset& offset, T* to) const {
        for (int k = lane; k < tile * D; k += warp_size) {
            const int64_t token = first + k / D;
            const int d = k % D;
            to[k] = token < n && d < in.d_head ? from[offset(token) + d] : T(0);
        }
    }
};

constexpr double no_score = -1e30; ///< of padding: far below any, and finite

template <typename T, int D> struct AttentionForward {
    static constexpr size_t shared_bytes = (2 * tile * D + tile) * sizeof(T);
    Tokens<T> in;
    T* mixed;
    T* log_sums;

    PETMAD_KERNEL void attend(
        const Head<T, D>& query, const T* keys, const T* values, const T* biases, int n_keys,
        Softmax<T, D>& state
    ) const {
        for (int first = 0; first < n_keys; first += group) {
            T scores[group];
            T highest = state.highest;
            for (int k = 0; k < group; ++k) {
                scores[k] = dot(query, keys + (first + k) * D) * in.scale + biases[first + k];
                highest = scores[k] > highest ? scores[k] : highest;
            }
            const T shrink = exp(state.highest - highest);
            state.highest = highest;
            state.sum *= shrink;
            for (int d = 0; d < D; ++d) {
                state.mixed[d] *= shrink;
            }
            for (int k = 0; k < group; ++k) {
                const T p = exp(scores[k] - highest);
                state.sum += p;
                add<T, D>(state.mixed, p, values + (first + k) * D);
            }
        }
    }

    PETMAD_KERNEL void operator()(Warp& warp, int64_t item) const {
        const Place<T, D> place(in, item);
        T* keys = warp.template shared<T>();
        T* values = keys + tile * D;
        T* biases = values + tile * D;
        for (int64_t first = 0; first < place.n; first += tile) {
            PerLane<Head<T, D>> query;
            PerLane<Softmax<T, D>> state;
            warp.lanes([&](int lane) {
                const int64_t token = first + lane < place.n ? first + lane : 0;
                query[lane] = place.load(in.qkv + place.qkv(token, 0));
                state[lane].highest = T(no_score);
            });
            for (int64_t block = 0; block < place.n; block += tile) {
                warp.lanes([&](int lane) {
                    place.fill_tile(
                        lane, block, in.qkv, [&](int64_t t) { return place.qkv(t, 1); }, keys
                    );
                    place.fill_tile(
                        lane, block, in.qkv, [&](int64_t t) { return place.qkv(t, 2); }, values
                    );
                    biases[lane] = block + lane < place.n ? place.bias(block + lane) : T(no_score);
                });
                const int n_keys =
                    static_cast<int>(place.n - block < tile ? place.n - block : tile);
                warp.lanes([&](int lane) {
                    attend(query[lane], keys, values, biases, n_keys, state[lane]);
                });
            }
            warp.lanes([&](int lane) {
                if (first + lane < place.n) {
                    const Softmax<T, D>& done = state[lane];
                    place.store(done.mixed, T(1) / done.sum, mixed + place.mixed(first + lane));
                    log_sums[place.number(first + lane)] = done.highest + log(done.sum);
                }
            });
        }
    }
};

/// d_query, and dot(d_mixed, mixed) of each query for the pass over keys.
template <typename T, int D> struct QueriesBackward {
    static constexpr size_t shared_bytes = (2 * tile * D + tile) * sizeof(T);
    Tokens<T> in;
    const T* mixed;
    const T* log_sums;
    const T* d_mixed;
    T* dots;
    T* d_qkv;

    struct Query {
        Head<T, D> query;
        Head<T, D> d_out;
        Head<T, D> d_query;
        T dot_out;
        T log_sum;
    };

    PETMAD_KERNEL void begin(const Place<T, D>& place, int64_t token, Query& query) const {
        query.query = place.load(in.qkv + place.qkv(token, 0));
        query.d_out = place.load(d_mixed + place.mixed(token));
        query.log_sum = log_sums[place.number(token)];
        query.dot_out = T(0);
        for (int d = 0; d < D; ++d) {
            query.d_query.values[d] = T(0);
            query.dot_out +=
                d < in.d_head ? query.d_out.values[d] * mixed[place.mixed(token) + d] : T(0);
        }
    }

    PETMAD_KERNEL void operator()(Warp& warp, int64_t item) const {
        const Place<T, D> place(in, item);
        T* keys = warp.template shared<T>();
        T* values = keys + tile * D;
        T* biases = values + tile * D;
        for (int64_t first = 0; first < place.n; first += tile) {
            PerLane<Query> query;
            warp.lanes([&](int lane) {
                begin(place, first + lane < place.n ? first + lane : 0, query[lane]);
            });
            for (int64_t block = 0; block < place.n; block += tile) {
                warp.lanes([&](int lane) {
                    place.fill_tile(
                        lane, block, in.qkv, [&](int64_t t) { return place.qkv(t, 1); }, keys
                    );
                    place.fill_tile(
                        lane, block, in.qkv, [&](int64_t t) { return place.qkv(t, 2); }, values
                    );
                    biases[lane] = block + lane < place.n ? place.bias(block + lane) : T(no_score);
                });
                warp.lanes([&](int lane) {
                    Query& mine = query[lane];
                    for (int64_t k = 0; k < tile && block + k < place.n; ++k) {
                        const T score = dot(mine.query, keys + k * D) * in.scale + biases[k];
                        const T p = exp(score - mine.log_sum);
                        const T ds = p * (dot(mine.d_out, values + k * D) - mine.dot_out);
                        add<T, D>(mine.d_query.values, ds, keys + k * D);
                    }
                });
            }
            warp.lanes([&](int lane) {
                if (first + lane < place.n) {
                    const int64_t token = first + lane;
                    place.store(query[lane].d_query.values, in.scale, d_qkv + place.qkv(token, 0));
                    dots[place.number(token)] = query[lane].dot_out;
                }
            });
        }
    }
};

/// d_key, d_value, and each head's share of d_log_weights.
template <typename T, int D> struct KeysBackward {
    static constexpr size_t shared_bytes = (2 * tile * D + 2 * tile) * sizeof(T);
    Tokens<T> in;
    const T* log_sums;
    const T* d_mixed;
    const T* dots;
    T* d_qkv;
    T* d_log_weights;

    struct Key {
        Head<T, D> key;
        Head<T, D> value;
        Head<T, D> d_key;
        Head<T, D> d_value;
        T bias;
        T d_bias;
    };

    PETMAD_KERNEL void begin(const Place<T, D>& place, int64_t token, Key& key) const {
        key.key = place.load(in.qkv + place.qkv(token, 1));
        key.value = place.load(in.qkv + place.qkv(token, 2));
        key.bias = place.bias(token);
        key.d_bias = T(0);
        for (int d = 0; d < D; ++d) {
            key.d_key.values[d] = T(0);
            key.d_value.values[d] = T(0);
        }
    }

    PETMAD_KERNEL void end(const Place<T, D>& place, int64_t token, const Key& key) const {
        place.store(key.d_key.values, in.scale, d_qkv + place.qkv(token, 1));
        place.store(key.d_value.values, T(1), d_qkv + place.qkv(token, 2));
        if (token > 0) {
            const int64_t edge = in.starts[place.center] + token - 1;
            d_log_weights[edge * in.n_heads + place.head] = key.d_bias;
        }
    }

    PETMAD_KERNEL void operator()(Warp& warp, int64_t item) const {
        const Place<T, D> place(in, item);
        T* queries = warp.template shared<T>();
        T* d_outs = queries + tile * D;
        T* sums = d_outs + tile * D;
        T* of_outs = sums + tile;
        for (int64_t first = 0; first < place.n; first += tile) {
            PerLane<Key> key;
            warp.lanes([&](int lane) {
                begin(place, first + lane < place.n ? first + lane : 0, key[lane]);
            });
            for (int64_t block = 0; block < place.n; block += tile) {
                warp.lanes([&](int lane) {
                    place.fill_tile(
                        lane, block, in.qkv, [&](int64_t t) { return place.qkv(t, 0); }, queries
                    );
                    place.fill_tile(
                        lane, block, d_mixed, [&](int64_t t) { return place.mixed(t); }, d_outs
                    );
                    const bool is_token = block + lane < place.n;
                    sums[lane] = is_token ? log_sums[place.number(block + lane)] : T(0);
                    of_outs[lane] = is_token ? dots[place.number(block + lane)] : T(0);
                });
                warp.lanes([&](int lane) {
                    Key& mine = key[lane];
                    for (int64_t q = 0; q < tile && block + q < place.n; ++q) {
                        const T score = dot(mine.key, queries + q * D) * in.scale + mine.bias;
                        const T p = exp(score - sums[q]);
                        const T ds = p * (dot(mine.value, d_outs + q * D) - of_outs[q]);
                        mine.d_bias += ds;
                        add<T, D>(mine.d_key.values, ds, queries + q * D);
                        add<T, D>(mine.d_value.values, p, d_outs + q * D);
                    }
                });
            }
            warp.lanes([&](int lane) {
                if (first + lane < place.n) {
                    end(place, first + lane, key[lane]);
                }
            });
        }
    }
};

/// Calls function with the narrowest compiled width that holds the head.
template <typename Function> void with_head_width(int d_head, const Function& function) {
    if (d_head <= 16) {
        function(std::integral_constant<int, 16>());
    } else if (d_head <= 32) {
        function(std::integral_constant<int, 32>());
    } else if (d_head <= 48) {
        function(std::integral_constant<int, 48>());
    } else if (d_head <= 64) {
        function(std::integral_constant<int, 64>());
    } else if (d_head <= 80) {
        function(std::integral_constant<int, 80>());
    } else {
        function(std::integral_constant<int, most_d_head>());
    }
}

template <typename T>
void attention(const Where& where, const Tokens<T>& in, T* mixed, T* log_sums) {
    with_head_width(in.d_head, [&](auto width) {
        using Kernel = AttentionForward<T, decltype(width)::value>;
        warps(where, in.n_centers * in.n_heads, Kernel::shared_bytes, Kernel{in, mixed, log_sums});
    });
}

template <typename T>
void attention_backward(
    const Where& where, const Tokens<T>& in, const T* mixed, const T* log_sums, const T* d_mixed,
    T* dots, T* d_qkv, T* d_log_weights
) {
    with_head_width(in.d_head, [&](auto width) {
        constexpr int d = decltype(width)::value;
        using Queries = QueriesBackward<T, d>;
        using Keys = KeysBackward<T, d>;
        const int64_t n = in.n_centers * in.n_heads;
        warps(where, n, Queries::shared_bytes, Queries{in, mixed, log_sums, d_mixed, dots, d_qkv});
        warps(
            where, n, Keys::shared_bytes, Keys{in, log_sums, d_mixed, dots, d_qkv, d_log_weights}
        );
    });
}

} // namespace
} // namespace petmad::cuda

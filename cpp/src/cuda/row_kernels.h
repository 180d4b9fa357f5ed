// Norms, activations, biases and sums along rows: one warp per row, neighboring lanes at
// neighboring columns. Each is bound by memory, so each does all that needs the same numbers.
#pragma once

#include "kernels.h"
#include "launch.h"

namespace petmad::cuda {
namespace {

template <typename T> PETMAD_KERNEL T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }

/// d(x sigmoid(x))/dx
template <typename T> PETMAD_KERNEL T silu_slope(T x) {
    const T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
}

/// Calls column(k) for every column of a lane.
template <typename Column>
PETMAD_KERNEL void columns(int lane, int64_t width, const Column& column) {
#if defined(__CUDACC__)
#pragma unroll 4
#endif
    for (int64_t k = lane; k < width; k += warp_size) {
        column(k);
    }
}

/// Rows [n, w] in one array.
template <typename T> struct Rows {
    const T* x;
    int64_t w;

    PETMAD_KERNEL int64_t width() const { return w; }
    PETMAD_KERNEL T at(int64_t row, int64_t k) const { return x[row * w + k]; }
};

/// Rows of two arrays [n, half] beside each other.
template <typename T> struct PairedRows {
    const T* left;
    const T* right;
    int64_t half;

    PETMAD_KERNEL int64_t width() const { return 2 * half; }
    PETMAD_KERNEL T at(int64_t row, int64_t k) const {
        return k < half ? left[row * half + k] : right[row * half + k - half];
    }
};

/// Where the adjoints of Rows go; `direct` (null: nothing) is added.
template <typename T> struct ToRows {
    const T* direct;
    int64_t w;
    T* dx;

    PETMAD_KERNEL void put(int64_t row, int64_t k, T value) const {
        const int64_t at = row * w + k;
        dx[at] = direct != nullptr ? direct[at] + value : value;
    }
};

/// Where those of PairedRows go; `direct` is added to the left.
template <typename T> struct ToPairedRows {
    const T* direct;
    int64_t half;
    T* d_left;
    T* d_right;

    PETMAD_KERNEL void put(int64_t row, int64_t k, T value) const {
        if (k < half) {
            d_left[row * half + k] = direct[row * half + k] + value;
        } else {
            d_right[row * half + k - half] = value;
        }
    }
};

template <typename T, typename From> struct RmsNorm {
    From x;
    const T* gain;
    T epsilon;
    T* y;
    T* statistics;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        const int64_t w = x.width();
        PerLane<T> squares;
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) { squares[lane] += x.at(row, k) * x.at(row, k); });
        });
        const T factor = T(1) / sqrt(warp.sum(squares) / T(w) + epsilon);
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) { y[row * w + k] = x.at(row, k) * factor * gain[k]; });
            if (lane == 0) {
                statistics[row] = factor;
            }
        });
    }
};

template <typename T, typename From> struct LayerNorm {
    From x;
    const T* gain;
    const T* bias;
    T epsilon;
    T* y;
    T* statistics;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        const int64_t w = x.width();
        PerLane<T> sum;
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) { sum[lane] += x.at(row, k); });
        });
        const T mean = warp.sum(sum) / T(w);
        PerLane<T> squares;
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                const T offset = x.at(row, k) - mean;
                squares[lane] += offset * offset;
            });
        });
        const T factor = T(1) / sqrt(warp.sum(squares) / T(w) + epsilon);
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                y[row * w + k] = (x.at(row, k) - mean) * factor * gain[k] + bias[k];
            });
            if (lane == 0) {
                statistics[2 * row] = mean;
                statistics[2 * row + 1] = factor;
            }
        });
    }
};

/// With g = dy·gain, s = 1/√(...): dx = s g - x s³ <g·x>/w (RMS), or s (g - <g>/w - x̂ <g·x̂>/w)
/// with x̂ = (x - mean) s (layer norm).
template <typename T, typename From, typename To> struct NormBackward {
    bool is_layer_norm;
    From x;
    const T* gain;
    const T* statistics;
    const T* dy;
    To dx;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        const int64_t w = x.width();
        const T mean = is_layer_norm ? statistics[2 * row] : T(0);
        const T factor = is_layer_norm ? statistics[2 * row + 1] : statistics[row];
        PerLane<T> dot;
        PerLane<T> sum;
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                const T g = dy[row * w + k] * gain[k];
                dot[lane] += g * (x.at(row, k) - mean);
                sum[lane] += g;
            });
        });
        const T pull = warp.sum(dot) * factor * factor / T(w);
        const T total = warp.sum(sum);
        const T shift = is_layer_norm ? total / T(w) : T(0);
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                const T g = dy[row * w + k] * gain[k];
                dx.put(row, k, factor * (g - shift - (x.at(row, k) - mean) * pull));
            });
        });
    }
};

template <typename T> struct Activate {
    bool gated;
    const T* u;
    const T* bias;
    int64_t w;
    T* y;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        warp.lanes([&](int lane) {
            const T* mine = u + row * (gated ? 2 * w : w);
            columns(lane, w, [&](int64_t k) {
                const T value = mine[k] + bias[k];
                const T gate = gated ? mine[w + k] + bias[w + k] : value;
                y[row * w + k] = value * sigmoid(gate);
            });
        });
    }
};

template <typename T> struct ActivateBackward {
    bool gated;
    const T* u;
    const T* bias;
    const T* dy;
    int64_t w;
    T* du;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        warp.lanes([&](int lane) {
            const int64_t first = row * (gated ? 2 * w : w);
            columns(lane, w, [&](int64_t k) {
                const T value = u[first + k] + bias[k];
                const T g = dy[row * w + k];
                if (gated) {
                    const T s = sigmoid(u[first + w + k] + bias[w + k]);
                    du[first + k] = g * s;
                    du[first + w + k] = g * value * s * (T(1) - s);
                } else {
                    du[first + k] = g * silu_slope(value);
                }
            });
        });
    }
};

template <typename T> struct AddBias {
    const T* product;
    const T* bias;
    const T* direct;
    const T* base;
    int64_t w;
    T* y;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                const int64_t at = row * w + k;
                const T sum = direct[at] + (product[at] + bias[k]);
                y[at] = base != nullptr ? base[at] + sum : sum;
            });
        });
    }
};

template <typename T> struct Embed {
    const T* product;
    const T* geometry;
    const T* w_geometry;
    const T* table;
    const int64_t* species;
    int64_t w;
    T* inner;
    T* activated;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        warp.lanes([&](int lane) {
            const T* g = geometry + 4 * row;
            const T* constant = table + species[row] * w;
            columns(lane, w, [&](int64_t k) {
                T value = constant[k] + g[0] * w_geometry[k] + g[1] * w_geometry[w + k]
                          + g[2] * w_geometry[2 * w + k] + g[3] * w_geometry[3 * w + k];
                value += product != nullptr ? product[row * w + k] : T(0);
                inner[row * w + k] = value;
                activated[row * w + k] = value * sigmoid(value);
            });
        });
    }
};

template <typename T> struct EmbedBackward {
    const T* inner;
    const T* d_activated;
    const T* w_geometry;
    int64_t w;
    T* du;
    T* d_geometry;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t row) const {
        PerLane<T> parts[4];
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                const T slope = d_activated[row * w + k] * silu_slope(inner[row * w + k]);
                du[row * w + k] = slope;
                for (int g = 0; g < 4; ++g) {
                    parts[g][lane] += slope * w_geometry[g * w + k];
                }
            });
        });
        T sums[4];
        for (int g = 0; g < 4; ++g) {
            sums[g] = warp.sum(parts[g]);
        }
        warp.lanes([&](int lane) {
            if (lane == 0) {
                for (int g = 0; g < 4; ++g) {
                    d_geometry[4 * row + g] = sums[g];
                }
            }
        });
    }
};

template <typename T> struct SumRows {
    const T* rows;
    const T* weights;
    const int64_t* starts;
    const T* base;
    int64_t w;
    T* out;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t center) const {
        if (w == 1) { // lanes along the edges
            PerLane<T> part;
            warp.lanes([&](int lane) {
                for (int64_t e = starts[center] + lane; e < starts[center + 1]; e += warp_size) {
                    part[lane] += weights != nullptr ? rows[e] * weights[e] : rows[e];
                }
            });
            const T total = warp.sum(part);
            warp.lanes([&](int lane) {
                if (lane == 0) {
                    out[center] = base != nullptr ? base[center] + total : total;
                }
            });
            return;
        }
        warp.lanes([&](int lane) {
            columns(lane, w, [&](int64_t k) {
                T sum = base != nullptr ? base[center * w + k] : T(0);
                for (int64_t e = starts[center]; e < starts[center + 1]; ++e) {
                    sum += weights != nullptr ? rows[e * w + k] * weights[e] : rows[e * w + k];
                }
                out[center * w + k] = sum;
            });
        });
    }
};

} // namespace
} // namespace petmad::cuda

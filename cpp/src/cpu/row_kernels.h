// Norms, activations and sums along rows; simple loops that the compiler vectorises.
// Included by kernels_isa.cpp alone, once per instruction set.
#pragma once

#include <cmath>
#include <cstdint>

#include "exponential.h"

namespace petmad::cpu {
namespace {

template <typename T>
void rms_norm(const T* x, const T* gain, T epsilon, int64_t n, int64_t w, T* y, T* rstd) {
    for (int64_t row = 0; row < n; ++row, x += w, y += w) {
        T squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t k = 0; k < w; ++k) {
            squares += x[k] * x[k];
        }
        const T factor = T(1) / std::sqrt(squares / T(w) + epsilon);
        rstd[row] = factor;
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            y[k] = x[k] * factor * gain[k];
        }
    }
}

template <typename T>
void rms_norm_backward(
    const T* x, const T* gain, const T* rstd, const T* dy, int64_t n, int64_t w, T* dx
) {
    for (int64_t row = 0; row < n; ++row, x += w, dy += w, dx += w) {
        T dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t k = 0; k < w; ++k) {
            dot += dy[k] * gain[k] * x[k];
        }
        const T factor = rstd[row];
        const T pull = dot * factor * factor * factor / T(w);
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            dx[k] += dy[k] * gain[k] * factor - x[k] * pull;
        }
    }
}

template <typename T>
void layer_norm(
    const T* x, const T* gain, const T* bias, T epsilon, int64_t n, int64_t w, T* y, T* mean_rstd
) {
    for (int64_t row = 0; row < n; ++row, x += w, y += w) {
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < w; ++k) {
            sum += x[k];
        }
        const T mean = sum / T(w);
        T squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t k = 0; k < w; ++k) {
            squares += (x[k] - mean) * (x[k] - mean);
        }
        const T factor = T(1) / std::sqrt(squares / T(w) + epsilon);
        mean_rstd[2 * row] = mean;
        mean_rstd[2 * row + 1] = factor;
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            y[k] = (x[k] - mean) * factor * gain[k] + bias[k];
        }
    }
}

template <typename T>
void layer_norm_backward(
    const T* x, const T* gain, const T* mean_rstd, const T* dy, int64_t n, int64_t w, T* dx
) {
    for (int64_t row = 0; row < n; ++row, x += w, dy += w, dx += w) {
        const T mean = mean_rstd[2 * row];
        const T factor = mean_rstd[2 * row + 1];
        T sum = 0;
        T dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t k = 0; k < w; ++k) {
            const T g = dy[k] * gain[k];
            sum += g;
            dot += g * (x[k] - mean);
        }
        const T shift = sum / T(w);
        const T pull = dot * factor * factor / T(w);
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            dx[k] += factor * (dy[k] * gain[k] - shift - (x[k] - mean) * pull);
        }
    }
}

template <typename T> void silu(const T* u, int64_t n, T* y) {
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) {
        y[k] = u[k] * sigmoid(u[k]);
    }
}

template <typename T> void silu_backward(const T* u, const T* dy, int64_t n, T* du) {
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) {
        const T s = sigmoid(u[k]);
        du[k] = dy[k] * s * (T(1) + u[k] * (T(1) - s));
    }
}

template <typename T> void swiglu(const T* u, int64_t n, int64_t w, T* y) {
    for (int64_t row = 0; row < n; ++row, u += 2 * w, y += w) {
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            y[k] = u[k] * sigmoid(u[w + k]);
        }
    }
}

template <typename T> void swiglu_backward(const T* u, const T* dy, int64_t n, int64_t w, T* du) {
    for (int64_t row = 0; row < n; ++row, u += 2 * w, du += 2 * w, dy += w) {
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            const T s = sigmoid(u[w + k]);
            const T g = dy[k];
            du[w + k] = g * u[k] * s * (T(1) - s);
            du[k] = g * s;
        }
    }
}

template <typename T> void add(const T* x, int64_t n, T* y) {
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) {
        y[k] += x[k];
    }
}

template <typename T>
void add_geometry(
    const T* geometry, const T* weights, const T* table, const int64_t* species, int64_t n,
    int64_t w, T* x
) {
    for (int64_t row = 0; row < n; ++row, x += w, geometry += 4) {
        const T* constant = table + species[row] * w;
#pragma omp simd
        for (int64_t k = 0; k < w; ++k) {
            x[k] += constant[k] + geometry[0] * weights[k] + geometry[1] * weights[w + k]
                    + geometry[2] * weights[2 * w + k] + geometry[3] * weights[3 * w + k];
        }
    }
}

} // namespace
} // namespace petmad::cpu

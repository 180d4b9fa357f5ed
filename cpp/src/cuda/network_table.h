// The tables of network kernels. Included once by g++ (network_host.cpp), and by nvcc once per data
// type (network_float.cu, network_double.cu).
#pragma once

#include "attention_kernels.h"
#include "row_kernels.h"

namespace petmad::cuda {
namespace {

template <typename T, typename From>
void norm_of(
    const Where& where, bool is_layer_norm, const From& x, const T* gain, const T* bias, T epsilon,
    int64_t n, T* y, T* statistics
) {
    if (is_layer_norm) {
        warps(where, n, 0, LayerNorm<T, From>{x, gain, bias, epsilon, y, statistics});
    } else {
        warps(where, n, 0, RmsNorm<T, From>{x, gain, epsilon, y, statistics});
    }
}

template <typename T>
void norm(
    const Where& where, bool is_layer_norm, const T* x, const T* gain, const T* bias, T epsilon,
    int64_t n, int64_t w, T* y, T* statistics
) {
    norm_of(where, is_layer_norm, Rows<T>{x, w}, gain, bias, epsilon, n, y, statistics);
}

template <typename T>
void norm_backward(
    const Where& where, bool is_layer_norm, const T* x, const T* gain, const T* statistics,
    const T* dy, const T* direct, int64_t n, int64_t w, T* dx
) {
    warps(
        where, n, 0,
        NormBackward<T, Rows<T>, ToRows<T>>{
            is_layer_norm, {x, w}, gain, statistics, dy, {direct, w, dx}
        }
    );
}

template <typename T>
void paired_norm(
    const Where& where, bool is_layer_norm, const T* left, const T* right, const T* gain,
    const T* bias, T epsilon, int64_t n, int64_t w, T* y, T* statistics
) {
    const PairedRows<T> x{left, right, w};
    norm_of(where, is_layer_norm, x, gain, bias, epsilon, n, y, statistics);
}

template <typename T>
void paired_norm_backward(
    const Where& where, bool is_layer_norm, const T* left, const T* right, const T* gain,
    const T* statistics, const T* dy, const T* direct, int64_t n, int64_t w, T* d_left, T* d_right
) {
    warps(
        where, n, 0,
        NormBackward<T, PairedRows<T>, ToPairedRows<T>>{
            is_layer_norm, {left, right, w}, gain, statistics, dy, {direct, w, d_left, d_right}
        }
    );
}

template <typename T>
void activate(
    const Where& where, bool gated, const T* u, const T* bias, int64_t n, int64_t w, T* y
) {
    warps(where, n, 0, Activate<T>{gated, u, bias, w, y});
}

template <typename T>
void activate_backward(
    const Where& where, bool gated, const T* u, const T* bias, const T* dy, int64_t n, int64_t w,
    T* du
) {
    warps(where, n, 0, ActivateBackward<T>{gated, u, bias, dy, w, du});
}

template <typename T>
void add_bias(
    const Where& where, const T* product, const T* bias, const T* direct, const T* base, int64_t n,
    int64_t w, T* y
) {
    warps(where, n, 0, AddBias<T>{product, bias, direct, base, w, y});
}

template <typename T>
void embed(
    const Where& where, const T* product, const T* geometry, const T* w_geometry, const T* table,
    const int64_t* species, int64_t n, int64_t w, T* inner, T* activated
) {
    warps(
        where, n, 0, Embed<T>{product, geometry, w_geometry, table, species, w, inner, activated}
    );
}

template <typename T>
void embed_backward(
    const Where& where, const T* inner, const T* d_activated, const T* w_geometry, int64_t n,
    int64_t w, T* du, T* d_geometry
) {
    warps(where, n, 0, EmbedBackward<T>{inner, d_activated, w_geometry, w, du, d_geometry});
}

template <typename T>
void sum_rows(
    const Where& where, const T* rows, const T* weights, const int64_t* starts, const T* base,
    int64_t n_centers, int64_t w, T* out
) {
    warps(where, n_centers, 0, SumRows<T>{rows, weights, starts, base, w, out});
}

template <typename T>
const NetworkKernels<T> network_table = {
    norm<T>,           norm_backward<T>,     paired_norm<T>,        paired_norm_backward<T>,
    activate<T>,       activate_backward<T>, add_bias<T>,           embed<T>,
    embed_backward<T>, attention<T>,         attention_backward<T>, sum_rows<T>,
};

} // namespace
} // namespace petmad::cuda

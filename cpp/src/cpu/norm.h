// A norm over rows, by name: what the operators apply before their first product.
#pragma once

#include <string>

#include "kernels.h"
#include "rows.h"

namespace petmad::cpu {

enum class NormKind { none, rms, layer };

inline NormKind norm_kind(const std::string& name) {
    PETMAD_CHECK(
        name == "none" || name == "RMSNorm" || name == "LayerNorm", "`norm` is '", name, "'",
        "; it must be none, RMSNorm or LayerNorm"
    );
    return name == "none" ? NormKind::none : name == "RMSNorm" ? NormKind::rms : NormKind::layer;
}

inline const char* norm_name(NormKind kind) {
    return kind == NormKind::none ? "none" : kind == NormKind::rms ? "RMSNorm" : "LayerNorm";
}

/// Numbers per row that the backward pass needs.
inline int64_t statistics_width(NormKind kind) { return static_cast<int64_t>(kind); }

template <typename T> struct Norm {
    NormKind kind;
    const T* gain;
    const T* bias;
    T epsilon;
    int64_t width;

    Norm(NormKind kind_, const Tensor& gain_, const Tensor& bias_, double epsilon_, int64_t width_)
        : kind(kind_), gain(kind_ == NormKind::none ? nullptr : in<T>(gain_)),
          bias(kind_ == NormKind::layer ? in<T>(bias_) : nullptr),
          epsilon(static_cast<T>(epsilon_)), width(width_) {
        PETMAD_CHECK(
            kind == NormKind::none || gain_.numel() == width, "`gain` has ", gain_.numel(),
            " numbers for rows of ", width, "; pass one per column"
        );
    }

    /// Rows of x, normalised into y unless there is no norm; statistics are kept.
    void forward(const T* x, int64_t n, T* y, T* statistics) const {
        if (kind == NormKind::rms) {
            kernels<T>().rms_norm(x, gain, epsilon, n, width, y, statistics);
        } else if (kind == NormKind::layer) {
            kernels<T>().layer_norm(x, gain, bias, epsilon, n, width, y, statistics);
        } else {
            std::copy_n(x, n * width, y);
        }
    }

    /// Rows of x, normalised, or x itself where there is no norm; `room` holds n rows.
    const T* of(const T* x, int64_t n, T* room, T* statistics) const {
        if (kind == NormKind::none) {
            return x;
        }
        forward(x, n, room, statistics);
        return room;
    }

    /// dx += adjoint
    void backward(const T* x, const T* statistics, const T* dy, int64_t n, T* dx) const {
        if (kind == NormKind::rms) {
            kernels<T>().rms_norm_backward(x, gain, statistics, dy, n, width, dx);
        } else if (kind == NormKind::layer) {
            kernels<T>().layer_norm_backward(x, gain, statistics, dy, n, width, dx);
        } else {
            for (int64_t k = 0; k < n * width; ++k) {
                dx[k] += dy[k];
            }
        }
    }
};

} // namespace petmad::cpu

// What lies between two products, on tensors: one kernel each.
#pragma once

#include "../cpu/norm.h"
#include "tensors.h"

namespace petmad::cuda {

/// A norm over rows, or none.
struct Norm {
    cpu::NormKind kind;
    Tensor gain, bias;
    double epsilon;

    /// Throws Error: a gain that does not fit rows so wide.
    void check(int64_t width) const;

    /// The normed rows; statistics are left for the backward pass.
    Tensor forward(const Tensor& x, Tensor& statistics) const;

    /// Adjoint of x, with `direct` (may be undefined) added.
    Tensor backward(
        const Tensor& x, const Tensor& statistics, const Tensor& dy, const Tensor& direct
    ) const;

    /// The norm of rows [n, 2 d] that lie in two arrays [n, d]; there must be one.
    Tensor forward(const Tensor& left, const Tensor& right, Tensor& statistics) const;

    /// Adjoints of left, with `direct` added, and of right.
    std::pair<Tensor, Tensor> backward(
        const Tensor& left, const Tensor& right, const Tensor& statistics, const Tensor& dy,
        const Tensor& direct
    ) const;
};

/// act(u + bias), SwiGLU where gated, else SiLU.
Tensor activate(const Tensor& u, const Tensor& bias, bool gated);

Tensor activate_backward(const Tensor& u, const Tensor& bias, const Tensor& dy, bool gated);

/// product += bias + direct + base (may be undefined), in place.
void add_bias(const Tensor& product, const Tensor& bias, const Tensor& direct, const Tensor& base);

} // namespace petmad::cuda

// Norms, linear layers and MLPs as passes over blocks of rows, forward and backward, without a
// record for autograd: what the operators are made of.
#pragma once

#include "norm.h"

namespace petmad::cpu {

/// A norm over rows; gain and bias are empty where it has none.
struct NormWeights {
    NormKind kind = NormKind::none;
    Tensor gain, bias;
    double epsilon = 0.0;
};

/// x @ wᵀ + b
struct LinearWeights {
    Tensor w, b;

    /// Throws Error: rows of another width, a bias of another length.
    void check(const Tensor& x, const char* name) const;
};

/// See mlp() in mlp_op.h.
struct MlpWeights {
    NormWeights norm;
    LinearWeights first, second;
    bool gated = false;
    bool residual = false;
    bool activate_output = false;

    int64_t inner() const { return second.w.size(1); }
    /// Throws Error: shapes that do not fit, weights that ask for gradients.
    void check(const Tensor& x) const;
};

/// What the backward pass of an MLP reads beside its input; undefined where it is computed again.
struct MlpKept {
    Tensor statistics; ///< of the norm
    Tensor inner;      ///< [n, rows of first.w] before the activation
    Tensor output;     ///< [n, d_out] before the last activation, if there is one
};

/// Fills `kept`, and y [n, d_out] if it is defined.
void mlp_forward(
    const MlpWeights& weights, const Tensor& x, bool keeps_wide, MlpKept& kept, Tensor y
);

/// dx [n, d] = adjoint of x.
void mlp_backward(
    const MlpWeights& weights, const Tensor& x, const MlpKept& kept, const Tensor& dy, Tensor dx
);

/// statistics and y [n, m] = norm(x) @ wᵀ + b.
void norm_linear_forward(
    const NormWeights& norm, const LinearWeights& linear, const Tensor& x, Tensor statistics,
    Tensor y
);

/// dx += adjoint of x.
void norm_linear_backward(
    const NormWeights& norm, const LinearWeights& linear, const Tensor& x, const Tensor& statistics,
    const Tensor& dy, Tensor dx
);

/// y [n, m] = base (if defined) + x @ wᵀ + b.
void linear_forward(const LinearWeights& linear, const Tensor& x, const Tensor& base, Tensor y);

/// dx [n, d] = base (if defined) + dy @ w.
void linear_backward(const LinearWeights& linear, const Tensor& dy, const Tensor& base, Tensor dx);

/// y = norm(x); fills statistics.
void norm_forward(const NormWeights& norm, const Tensor& x, Tensor statistics, Tensor y);

/// dx = adjoint of x.
void norm_backward(
    const NormWeights& norm, const Tensor& x, const Tensor& statistics, const Tensor& dy, Tensor dx
);

/// Room for the statistics of n rows like these.
inline Tensor empty_statistics(const NormWeights& norm, const Tensor& x) {
    return torch::empty({x.size(0), statistics_width(norm.kind)}, x.options());
}

} // namespace petmad::cpu

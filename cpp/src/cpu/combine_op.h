// What an edge and its reversed one tell each other, as differentiable operators.
#pragma once

#include <string>

#include <torch/types.h>

#include "norm.h"

namespace petmad::cpu {

/// messages + rows + mlp(norm([rows, reversed])), the three [n, d], without the wide array.
///
/// norm: "LayerNorm" or "RMSNorm" of width 2 d with gain and bias (empty for RMSNorm) and epsilon;
/// w_in: [h, 2 d]; SiLU between; w_out: [d, h]. Differentiable once, in the first three.
torch::Tensor combine(
    const torch::Tensor& messages, const torch::Tensor& rows, const torch::Tensor& reversed,
    const std::string& norm, const torch::Tensor& gain, const torch::Tensor& bias, double epsilon,
    const torch::Tensor& w_in, const torch::Tensor& b_in, const torch::Tensor& w_out,
    const torch::Tensor& b_out
);

/// The weights above.
struct CombineWeights {
    NormKind norm;
    torch::Tensor gain, bias;
    double epsilon;
    torch::Tensor w_in, b_in, w_out, b_out;

    /// Throws Error: shapes that do not fit, weights that ask for gradients.
    void check(
        const torch::Tensor& messages, const torch::Tensor& rows, const torch::Tensor& reversed
    ) const;
};

/// Rows [n, d] of rows [n_rows, d] by distinct indices [n] int64; the backward pass gathers too.
/// Differentiable once. Throws Error: an index outside of the rows, or one that occurs twice.
torch::Tensor distinct_rows(const torch::Tensor& rows, const torch::Tensor& indices);

} // namespace petmad::cpu

// Norm, two linear layers and what lies between them, in one pass over blocks of rows.
#pragma once

#include <string>

#include <torch/types.h>

namespace petmad::cpu {

/// y = residual·x + f(act(norm(x) @ w_inᵀ + b_in) @ w_outᵀ + b_out), rows independent.
///
/// x: [n, d]; norm: "none", "RMSNorm" or "LayerNorm" with gain [d] and bias [d] (empty for RMSNorm
/// and none) and epsilon; w_in: [h or 2h, d]; activation: "SwiGLU" (value first, then gate; w_in
/// has 2h rows) or "SiLU"; w_out: [d_out, h]; f is SiLU if activate_output, else nothing.
/// Differentiable once, in x alone.
torch::Tensor
mlp(const torch::Tensor& x, const std::string& norm, const torch::Tensor& gain,
    const torch::Tensor& bias, double epsilon, const torch::Tensor& w_in, const torch::Tensor& b_in,
    const torch::Tensor& w_out, const torch::Tensor& b_out, const std::string& activation,
    bool residual, bool activate_output);

/// norm(x) @ wᵀ + b, [n, m] of x [n, d] and w [m, d]; the norm as in mlp(). Differentiable once, in
/// x alone. Both throw Error: shapes that do not fit, an unknown norm, a weight that asks for a
/// gradient; and, in the backward pass, second derivatives.
torch::Tensor norm_linear(
    const torch::Tensor& x, const std::string& norm, const torch::Tensor& gain,
    const torch::Tensor& bias, double epsilon, const torch::Tensor& w, const torch::Tensor& b
);

} // namespace petmad::cpu

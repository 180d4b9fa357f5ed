// Edge tokens from geometry, species and messages, as a differentiable operator.
#pragma once

#include <torch/types.h>

namespace petmad::cpu {

/// silu(geometry @ w_geometry + table[species] + messages @ w_messageᵀ) @ w_outᵀ + b_out
///
/// geometry: [n, 4]; messages: [n, d], or [n, 0] where the first layer's message is in the table;
/// species: [n] int64; table: [n_species, h]; w_geometry: [4, h]; w_message: [h, d]; w_out: [d, h].
/// Differentiable once, in geometry and messages.
torch::Tensor compress(
    const torch::Tensor& geometry, const torch::Tensor& messages, const torch::Tensor& species,
    const torch::Tensor& table, const torch::Tensor& w_geometry, const torch::Tensor& w_message,
    const torch::Tensor& w_out, const torch::Tensor& b_out
);

} // namespace petmad::cpu

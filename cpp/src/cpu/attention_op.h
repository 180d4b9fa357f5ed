// Attention over ragged tokens as a differentiable operator.
#pragma once

#include <torch/types.h>

namespace petmad::cpu {

/// Mixed values [n_centers + n_edges, d] of qkv [n_centers + n_edges, 3 d] among the tokens of each
/// center: its own row, then rows n_centers + starts[i] to n_centers + starts[i + 1] (starts:
/// [n_centers + 1]). Scores are scale q·k + log_weights [n_edges] of the key, 0 for the center.
/// Differentiable once, in qkv and log_weights.
torch::Tensor attention(
    const torch::Tensor& qkv, const torch::Tensor& log_weights, const torch::Tensor& starts,
    int64_t n_heads, double scale
);

} // namespace petmad::cpu

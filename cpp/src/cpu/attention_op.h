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

struct Heads {
    int64_t n = 1;
    double scale = 1.0;
};

/// The same without a record for autograd; dense arguments.
torch::Tensor attention_forward(
    const torch::Tensor& qkv, const torch::Tensor& log_weights, const torch::Tensor& starts,
    const Heads& heads
);

/// Its adjoints: d_qkv is written, d_log_weights too.
void attention_backward(
    const torch::Tensor& qkv, const torch::Tensor& log_weights, const torch::Tensor& starts,
    const Heads& heads, const torch::Tensor& d_mixed, torch::Tensor d_qkv,
    torch::Tensor d_log_weights
);

} // namespace petmad::cpu

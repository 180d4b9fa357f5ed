// The network's operators on GPUs, and on CPUs by emulation: the signatures of cpu/*_op.h.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

namespace petmad::cuda {

/// See cpu/attention_op.h. Heads at most 128 wide.
torch::Tensor attention(
    const torch::Tensor& qkv, const torch::Tensor& log_weights, const torch::Tensor& starts,
    int64_t n_heads, double scale
);

/// See cpu/combine_op.h.
torch::Tensor combine(
    const torch::Tensor& messages, const torch::Tensor& rows, const torch::Tensor& reversed,
    const std::string& norm, const torch::Tensor& gain, const torch::Tensor& bias, double epsilon,
    const torch::Tensor& w_in, const torch::Tensor& b_in, const torch::Tensor& w_out,
    const torch::Tensor& b_out
);

/// See cpu/compress_op.h.
torch::Tensor compress(
    const torch::Tensor& geometry, const torch::Tensor& messages, const torch::Tensor& species,
    const torch::Tensor& table, const torch::Tensor& w_geometry, const torch::Tensor& w_message,
    const torch::Tensor& w_out, const torch::Tensor& b_out
);

/// See cpu/gnn_layer_op.h. In the tiers above `layers` its parts keep what they would by
/// themselves.
std::tuple<torch::Tensor, torch::Tensor> gnn_layer(
    const torch::Tensor& nodes, const torch::Tensor& messages, const torch::Tensor& geometry,
    const torch::Tensor& species, const torch::Tensor& log_weights, const torch::Tensor& starts,
    const std::vector<torch::Tensor>& compress, const std::vector<torch::Tensor>& layers,
    const std::string& norm, double epsilon, bool pre_norm, bool gated, int64_t n_heads,
    double scale
);

/// Rows of a block in tier `layers`, instead of rows_per_gpu_block; for tests.
void set_rows_per_block(int64_t rows);

/// See cpu/mlp_op.h, as of norm_linear().
torch::Tensor
mlp(const torch::Tensor& x, const std::string& norm, const torch::Tensor& gain,
    const torch::Tensor& bias, double epsilon, const torch::Tensor& w_in, const torch::Tensor& b_in,
    const torch::Tensor& w_out, const torch::Tensor& b_out, const std::string& activation,
    bool residual, bool activate_output);

torch::Tensor norm_linear(
    const torch::Tensor& x, const std::string& norm, const torch::Tensor& gain,
    const torch::Tensor& bias, double epsilon, const torch::Tensor& w, const torch::Tensor& b
);

/// Sums over the edges of each center, in their order: base [n_centers, w] + Σ weights[e] rows[e].
/// starts: [n_centers + 1]; weights: [n_edges], or [0] for 1 each. Differentiable once, in rows,
/// weights and base.
torch::Tensor sum_by_center(
    const torch::Tensor& rows, const torch::Tensor& weights, const torch::Tensor& starts,
    const torch::Tensor& base
);

} // namespace petmad::cuda

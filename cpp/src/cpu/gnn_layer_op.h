// A whole GNN layer as one differentiable operator, which keeps what the memory tier allows.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

namespace petmad::cpu {

/// Node states [n_centers, d_node] and tokens [n_edges, d_pet] after compress (see compress_op.h)
/// and the transformer layers; differentiable once, in nodes, messages, geometry and log_weights.
///
/// compress: its five weights, in order. layers: of each transformer layer 12 weights: gain and
/// bias of the attention's norm, weight and bias of its input and output products, gain and bias of
/// the MLP's norm, weight and bias of its two products; and where the node state is wider than a
/// token 10 more: contraction, expansion, the norm of the node's MLP, its two products. norm:
/// "RMSNorm" or "LayerNorm"; gated: SwiGLU, else SiLU.
///
/// Throws Error: another number of weights, shapes that do not fit, weights that ask for gradients.
std::tuple<torch::Tensor, torch::Tensor> gnn_layer(
    const torch::Tensor& nodes, const torch::Tensor& messages, const torch::Tensor& geometry,
    const torch::Tensor& species, const torch::Tensor& log_weights, const torch::Tensor& starts,
    const std::vector<torch::Tensor>& compress, const std::vector<torch::Tensor>& layers,
    const std::string& norm, double epsilon, bool pre_norm, bool gated, int64_t n_heads,
    double scale
);

} // namespace petmad::cpu

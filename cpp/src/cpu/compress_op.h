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

/// The weights above.
struct CompressWeights {
    torch::Tensor table, w_geometry, w_message, w_out, b_out;

    int64_t inner() const { return table.size(1); }
    /// Throws Error: shapes that do not fit, a species that the table lacks.
    void check(
        const torch::Tensor& geometry, const torch::Tensor& messages, const torch::Tensor& species
    ) const;
};

/// The same without a record for autograd; fills inner [n, h], before the activation, and tokens.
void compress_forward(
    const CompressWeights& weights, const torch::Tensor& geometry, const torch::Tensor& messages,
    const torch::Tensor& species, torch::Tensor inner, torch::Tensor tokens
);

/// Its adjoints from dy, that of tokens; d_messages may be undefined.
void compress_backward(
    const CompressWeights& weights, const torch::Tensor& inner, const torch::Tensor& dy,
    torch::Tensor d_geometry, torch::Tensor d_messages
);

} // namespace petmad::cpu

// The torch side of the halo exchange: what an exported model calls when it runs on several ranks.
#pragma once

#include <tuple>

#include <torch/types.h>

namespace petmad {

/// Values of owned atoms [n_owned, ...], then of the remote atoms; differentiable.
torch::Tensor ghost_values(const torch::Tensor& owned, int64_t halo);

/// Indices of the edges kept from both ends, and among them each one's reversed edge (-1: on
/// another rank). Not differentiable.
std::tuple<torch::Tensor, torch::Tensor>
live_edges(const torch::Tensor& keep, const torch::Tensor& reverse_edges, int64_t halo);

/// The row of each kept edge's reversed edge; differentiable, its own adjoint.
torch::Tensor
reversed_rows(const torch::Tensor& rows, const torch::Tensor& reverse_kept, int64_t halo);

/// As the above two, recording the backward pass.
torch::Tensor ghost_values_autograd(const torch::Tensor& owned, int64_t halo);
torch::Tensor
reversed_rows_autograd(const torch::Tensor& rows, const torch::Tensor& reverse_kept, int64_t halo);

} // namespace petmad

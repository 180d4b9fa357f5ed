// Small tools of the operators: typed pointers, blocks of rows, scratch, and who may call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/types.h>

#include "petmad/error.h"
#include "products.h"

namespace petmad::cpu {

using torch::Tensor;

/// Rows worked on at a time, at most: their activations stay in cache.
constexpr int64_t most_rows_per_block = 512;

template <typename T> const T* in(const Tensor& tensor) { return tensor.const_data_ptr<T>(); }
template <typename T> T* out(Tensor& tensor) { return tensor.mutable_data_ptr<T>(); }

/// Calls function(first, n) for blocks of rows, as many for every thread.
template <typename Function> void for_blocks(int64_t n_rows, const Function& function) {
    const int64_t n_threads = at::get_num_threads();
    const int64_t needed = (n_rows + most_rows_per_block - 1) / most_rows_per_block;
    const int64_t n_blocks = (needed + n_threads - 1) / n_threads * n_threads;
    const int64_t size = n_blocks > 0 ? (n_rows + n_blocks - 1) / n_blocks : 0;
    at::parallel_for(0, n_blocks, 1, [&](int64_t first_block, int64_t last_block) {
        for (int64_t block = first_block; block < last_block; ++block) {
            const int64_t first = block * size;
            if (first < n_rows) {
                function(first, std::min(size, n_rows - first));
            }
        }
    });
}

/// Refuses what the hand-written backward passes do not have: gradients of weights, and second
/// derivatives.
inline void check_frozen(const std::vector<Tensor>& weights) {
    for (const Tensor& weight : weights) {
        PETMAD_CHECK(
            !(weight.defined() && weight.requires_grad()),
            "a weight of an exported model asks for a gradient",
            "; exported models are for inference: train the checkpoint instead"
        );
    }
}

inline void check_once() {
    PETMAD_CHECK(
        !at::GradMode::is_enabled(),
        "an exported model was asked for second derivatives (create_graph=True)",
        "; it gives first derivatives only: load the checkpoint for more"
    );
}

} // namespace petmad::cpu

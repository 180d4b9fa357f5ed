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

/// Rows worked on at a time: their activations stay in the second-level cache. A multiple of the
/// rows that every product kernel holds in registers.
constexpr int64_t rows_per_block = 96;

template <typename T> const T* in(const Tensor& tensor) { return tensor.const_data_ptr<T>(); }
template <typename T> T* out(Tensor& tensor) { return tensor.mutable_data_ptr<T>(); }

/// Room for rows between two steps of a block; freed with it.
template <typename T> class Scratch {
public:
    Scratch(int64_t n, int64_t width, const Tensor& like)
        : tensor_(torch::empty({n, width}, like.options())) {}
    T* data() { return out<T>(tensor_); }
    operator T*() { return data(); }

private:
    Tensor tensor_;
};

/// Rows where they are kept for the backward pass, or room for a block of them where they are not.
template <typename T> class KeptRows {
public:
    KeptRows(const Tensor& kept, int64_t first, int64_t n, int64_t width, const Tensor& like)
        : tensor_(kept.defined() ? kept : torch::empty({n, width}, like.options())),
          data_(out<T>(tensor_) + (kept.defined() ? first * width : 0)) {}
    operator T*() { return data_; }

private:
    Tensor tensor_;
    T* data_;
};

/// Calls function(first, n) for blocks of rows, on all threads, each of which has as many tiles of
/// the product kernels as the next, give or take one.
template <typename Function> void for_blocks(int64_t n_rows, const Function& function) {
    constexpr int64_t tile = 12;
    at::parallel_for(0, (n_rows + tile - 1) / tile, 1, [&](int64_t first_tile, int64_t last_tile) {
        const int64_t end = std::min(last_tile * tile, n_rows);
        for (int64_t first = first_tile * tile; first < end; first += rows_per_block) {
            function(first, std::min(rows_per_block, end - first));
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

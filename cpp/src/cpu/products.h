// Products of row blocks with the network's weights, by the library that is fastest here.
#pragma once

#include <cstdint>
#include <string>

#include <torch/types.h>

#include "kernels.h"
#include "product_bf16.h"

namespace petmad::cpu {

/// Which way a weight [m, k] of a linear layer is multiplied.
enum class Direction {
    forward, ///< x [n, k] -> x @ wᵀ [n, m]
    backward ///< y [n, m] -> y @ w [n, k]
};

/// A weight ready for products with blocks of rows; it must outlive this.
template <typename T> class Factor {
public:
    /// bias: [m], or an undefined or empty tensor for none.
    Factor(const torch::Tensor& weight, Direction direction, const torch::Tensor& bias = {});

    /// y [n, width_out] = x [n, width_in] @ matrix + bias.
    void operator()(const T* x, int64_t n, T* y) const { run(x, n, y, product_); }

    /// y += x @ matrix, the bias left out.
    void add(const T* x, int64_t n, T* y) const {
        Product<T> product = product_;
        product.add = true;
        run(x, n, y, product);
    }

private:
    void run(const T* x, int64_t n, T* y, const Product<T>& product) const;

    torch::Tensor weight_;
    torch::Tensor panels_;
    Direction direction_;
    Product<T> product_;
    Bf16Product narrow_ = nullptr; ///< where precision is bf16, and panels_ hold that
};

/// "petmad" (kernels of ours), "onednn" or "blas" (the library torch was built with).
std::string product_library();

/// Chooses one by name. Throws Error for another, or for onednn where torch has none.
void choose_product_library(const std::string& name);

/// Bytes that packed copies of weights take.
int64_t packed_bytes();

} // namespace petmad::cpu

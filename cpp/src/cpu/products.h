// Matrix products of blocks of rows, by the library that is fastest on this processor.
#pragma once

#include <string>

#include <torch/types.h>

namespace petmad::cpu {

/// destination [n, m] = source [n, k] @ matrix [k, m]; matrix may be a transposed view.
void multiply(
    const torch::Tensor& destination, const torch::Tensor& source, const torch::Tensor& matrix
);

/// "onednn" or "blas" (the library torch was built with, usually MKL).
std::string product_library();

/// Chooses one by name. Throws Error for another, or for onednn where torch has none.
void choose_product_library(const std::string& name);

} // namespace petmad::cpu

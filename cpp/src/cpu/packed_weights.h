// Weights in the order in which the product kernel reads them, made once per weight.
#pragma once

#include <torch/types.h>

#include "products.h"

namespace petmad::cpu {

/// Panels [ceil(m / columns_per_panel), k, columns_per_panel] of a weight's matrix in one
/// direction, zeros beyond m. Kept while the weight's memory lives, and made again when it was
/// written to. Any thread may ask. As bfloat16 they are in pairs along k, see product_bf16.h.
torch::Tensor packed(const torch::Tensor& weight, Direction direction, bool as_bf16 = false);

} // namespace petmad::cpu

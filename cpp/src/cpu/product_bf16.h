// Products of float32 rows with weights in bfloat16.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace petmad::cpu {

/// As Kernels::multiply, but rows are rounded to bfloat16 and `panels` hold bfloat16 in pairs along
/// k, [ceil(k / 2), columns_per_panel, 2] each, the last pair filled with 0. Sums are float32.
using Bf16Product = void (*)(
    const Product<float>& product, const uint16_t* panels, const float* a, int64_t n, float* c
);

/// Null where processor or build have no such instructions, or others than avx512 are chosen.
Bf16Product bf16_product();

/// For processors with avx512_bf16.
void multiply_bf16(
    const Product<float>& product, const uint16_t* panels, const float* a, int64_t n, float* c
);

} // namespace petmad::cpu

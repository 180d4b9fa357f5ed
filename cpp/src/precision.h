// The precision of matrix products while an evaluation runs.
#pragma once

#include "petmad/precision.h"

namespace petmad {

/// Of the products of this process; `file` unless a guard says otherwise.
Precision product_precision();
void set_product_precision(Precision precision);

/// Sets it, and torch's own switch for tf32, until the end of its scope.
class ProductPrecisionGuard {
public:
    ProductPrecisionGuard(Precision precision, bool on_gpu);
    ~ProductPrecisionGuard();
    ProductPrecisionGuard(const ProductPrecisionGuard&) = delete;
    ProductPrecisionGuard& operator=(const ProductPrecisionGuard&) = delete;
};

} // namespace petmad

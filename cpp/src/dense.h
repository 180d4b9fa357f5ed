// Tensors as the loops over edges read them.
#pragma once

#include <torch/types.h>

#include "petmad/error.h"

namespace petmad {

/// Contiguous, of this type, without gradient. Throws Error: not on the CPU.
inline torch::Tensor dense(const torch::Tensor& tensor, torch::ScalarType dtype) {
    PETMAD_CHECK(
        tensor.is_cpu(), "edge functions take CPU tensors, found one on ", tensor.device(),
        "; move it with .cpu()"
    );
    return tensor.detach().to(dtype).contiguous();
}

} // namespace petmad

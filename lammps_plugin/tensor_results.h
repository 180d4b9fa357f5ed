// What the pair style evaluated for compute petmad/tensor, and at which step.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <vector>

#include "petmad/types.h"

namespace petmad_lammps {

/// PairPetmad::extract() hands out the address of its own under this name.
constexpr const char* tensor_results_name = "petmad/tensors";

struct TensorResults {
    std::vector<petmad::TensorInfo> targets; ///< of the model
    int charge = 0;                          ///< total charge [e] that pair_style was given
    int64_t step = -1;                       ///< of the following
    petmad::Outputs values;                  ///< of this rank, by name; those asked for
};

} // namespace petmad_lammps

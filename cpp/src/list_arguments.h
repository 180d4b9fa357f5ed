// What every neighbor list asks of its arguments, wherever it runs.
#pragma once

#include <cmath>

#include <torch/types.h>

#include "petmad/error.h"

namespace petmad {

/// Throws Error: shapes other than [n_atoms, 3], [3, 3] and [3], a cutoff [Å] that is no length.
inline void check_list_arguments(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff
) {
    PETMAD_CHECK(
        positions.dim() == 2 && positions.size(1) == 3,
        "`positions` must have shape [n_atoms, 3], got ", positions.sizes(),
        "; pass one row of x, y, z in Å per atom"
    );
    PETMAD_CHECK(
        cell.dim() == 2 && cell.size(0) == 3 && cell.size(1) == 3,
        "`cell` must have shape [3, 3], got ", cell.sizes(), "; pass lattice vectors as rows"
    );
    PETMAD_CHECK(
        pbc.dim() == 1 && pbc.size(0) == 3, "`pbc` must have shape [3], got ", pbc.sizes(),
        "; pass one flag per lattice vector"
    );
    PETMAD_CHECK(
        std::isfinite(cutoff) && cutoff > 0.0, "`cutoff` must be positive, got ", cutoff,
        "; pass a radius in Å"
    );
}

} // namespace petmad

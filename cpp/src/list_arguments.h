// What every neighbor list asks of its arguments, wherever it runs.
#pragma once

#include <cmath>

#include <torch/types.h>

#include "petmad/error.h"

namespace petmad {

constexpr double farthest = 1e9;       // Å. Beyond, distances have no digits left
constexpr double largest_cutoff = 1e4; // Å

/// Throws Error unless an atom is somewhere.
inline void check_position(const double* x, int64_t label) {
    const auto is_somewhere = [](double value) { return std::abs(value) <= farthest; };
    PETMAD_CHECK(
        is_somewhere(x[0]) && is_somewhere(x[1]) && is_somewhere(x[2]), "position of atom ", label,
        " is (", x[0], ", ", x[1], ", ", x[2], "); it must be finite, and at most ", farthest,
        " Å: look for a time step that is too long or overlapping atoms"
    );
}

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
        cutoff > 0.0 && cutoff <= largest_cutoff, "`cutoff` must be positive, got ", cutoff,
        "; pass a radius in Å, at most ", largest_cutoff
    );
}

} // namespace petmad

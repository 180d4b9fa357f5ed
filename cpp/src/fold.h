// From one edge gradient to forces and virials.
#pragma once

#include <torch/types.h>

#include "petmad/types.h"
#include "step_edges.h"

namespace petmad {

/// Adds to results.forces (F_i += g, F_j -= g) and, where it is not empty, to
/// results.atomic_virials (half of each edge to either end); sets results.virial
/// (-Σ r ⊗ g, symmetrised). `gradients` [n_edges, 3] eV/Å lie where the edges do.
void fold(const StepEdges& edges, const torch::Tensor& gradients, Results& results);

} // namespace petmad

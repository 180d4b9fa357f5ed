// From the network's nodes to the host program's atoms.
#pragma once

#include <cstdint>
#include <vector>

#include "petmad/outputs.h"

namespace petmad {

/// Outputs whose `atoms` are rows of nodes, turned into rows of owned atoms; zeros elsewhere.
Outputs place(Outputs outputs, const std::vector<int64_t>& owned_atoms, int64_t n_owned);

} // namespace petmad

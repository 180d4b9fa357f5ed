// Predictions beside the energy and its gradients: direct forces, uncertainties, features, ...
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace petmad {

/// One prediction of the model, in its own unit.
struct Output {
    int64_t width = 0;         ///< numbers per atom
    std::vector<double> atoms; ///< [n_owned, width]; zeros for atoms the model does not touch
    /// Over owned atoms, in float64 whatever the dtype of the network; add it up over ranks, then
    /// `whole` is the value of the structure.
    std::vector<double> sum;
    /// True of uncertainties: `sum` adds vectors, whose norm is the value, and `atoms` are the
    /// norms of single atoms (width 1).
    bool is_norm = false;
};

using Outputs = std::map<std::string, Output>;

/// The value of the structure from a sum over all of its atoms: itself, or its norm.
std::vector<double> whole(const Output& output, const std::vector<double>& sum);

} // namespace petmad

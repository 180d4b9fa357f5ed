// Rows of the network's nodes to rows of atoms; sums to values.
#include "petmad/outputs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "output_rows.h"

namespace petmad {

std::vector<double> whole(const Output& output, const std::vector<double>& sum) {
    if (!output.is_norm) {
        return sum;
    }
    return {std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0))};
}

Outputs place(Outputs outputs, const std::vector<int64_t>& owned_atoms, int64_t n_owned) {
    for (auto& [name, output] : outputs) {
        const std::vector<double> rows = std::move(output.atoms);
        const int64_t width = output.width;
        output.atoms.assign(n_owned * width, 0.0);
        for (size_t node = 0; node < owned_atoms.size(); ++node) {
            std::copy_n(
                rows.begin() + static_cast<int64_t>(node) * width, width,
                output.atoms.begin() + owned_atoms[node] * width
            );
        }
    }
    return outputs;
}

} // namespace petmad

// Plain loops on the host; on a GPU each atom gathers from its edges.
#include "fold.h"

#include <algorithm>

namespace petmad {
namespace {

void fold_on_host(const StepEdges& edges, const torch::Tensor& gradients, Results& results) {
    const auto* r = edges.vectors.const_data_ptr<double>();
    const auto* g = gradients.const_data_ptr<double>();
    const auto* center = edges.center_atoms.const_data_ptr<int64_t>();
    const auto* neighbor = edges.neighbor_atoms.const_data_ptr<int64_t>();
    std::array<double, 9> virial{};
    const bool want_atomic = !results.atomic_virials.empty();
    for (int64_t e = 0; e < edges.size(); ++e, r += 3, g += 3) {
        const int64_t i = center[e];
        const int64_t j = neighbor[e];
        for (int a = 0; a < 3; ++a) {
            results.forces[3 * i + a] += g[a];
            results.forces[3 * j + a] -= g[a];
            for (int b = 0; b < 3; ++b) {
                const double share = -0.5 * r[a] * g[b];
                virial[3 * a + b] += share;
                virial[3 * b + a] += share;
                if (want_atomic) {
                    results.atomic_virials[9 * i + 3 * a + b] += share;
                    results.atomic_virials[9 * j + 3 * a + b] += share;
                }
            }
        }
    }
    results.virial = virial;
}

template <typename Values> void bring(const torch::Tensor& tensor, Values& values) {
    const torch::Tensor here = tensor.cpu().contiguous();
    std::copy_n(here.const_data_ptr<double>(), here.numel(), values.begin());
}

void fold_on_device(const StepEdges& edges, const torch::Tensor& gradients, Results& results) {
    const cuda::ListIncidence& incidence = *edges.incidence;
    const torch::Tensor forces = cuda::fold_list_forces(gradients, incidence);
    const torch::Tensor virial = cuda::fold_list_virial(gradients, edges.vectors);
    if (!results.atomic_virials.empty()) {
        bring(
            cuda::fold_list_atomic_virials(gradients, edges.vectors, incidence),
            results.atomic_virials
        );
    }
    bring(forces, results.forces);
    bring(virial, results.virial);
}

} // namespace

void fold(const StepEdges& edges, const torch::Tensor& gradients, Results& results) {
    if (edges.incidence) {
        fold_on_device(edges, gradients, results);
    } else {
        fold_on_host(edges, gradients, results);
    }
}

} // namespace petmad

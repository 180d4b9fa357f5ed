// Both adaptive cutoffs as differentiable operators on GPUs.
#include <torch/csrc/autograd/custom_function.h>

#include "../cpu/rows.h"
#include "list_ops.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The kernels leave dR/dr of each edge, which the backward pass multiplies.
struct CutoffsOfCenters : torch::autograd::Function<CutoffsOfCenters> {
    template <typename Launch>
    static Tensor forward(
        AutogradContext* context, const Tensor& distances_, const Tensor& centers_,
        int64_t n_centers, const Launch& launch
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        PETMAD_CHECK(
            distances_.scalar_type() == torch::kFloat64 && distances_.dim() == 1
                && centers_.numel() == distances_.numel(),
            "adaptive cutoffs: distances ", distances_.sizes(), " of ", distances_.scalar_type(),
            " do not fit centers ", centers_.sizes(), "; pass one float64 distance per edge"
        );
        const c10::DeviceGuard guard(distances_.device());
        const Tensor distances = dense(distances_);
        const Tensor centers = dense(centers_);
        const Tensor starts = list_starts(centers, n_centers);
        const Tensor cutoffs = torch::empty({n_centers}, distances.options());
        const Tensor derivatives = torch::empty_like(distances);
        launch(where_of(distances), distances, starts, cutoffs, derivatives);
        context->save_for_backward({derivatives, centers});
        return cutoffs;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        return {s[0] * gradients[0].index_select(0, s[1]), Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

Tensor solver_cutoffs(
    const Tensor& distances, const Tensor& centers, int64_t n_centers, double cutoff,
    double n_neighbors, double width, int64_t iterations, double slope_floor
) {
    const SolverAims aims{cutoff, n_neighbors, width, iterations, slope_floor};
    const auto launch = [&](const Where& where, const Tensor& r, const Tensor& starts,
                            const Tensor& cutoffs, const Tensor& derivatives) {
        list_kernels(where.on_gpu)
            .solver(
                where, in<double>(r), in<int64_t>(starts), n_centers, aims, out<double>(cutoffs),
                out<double>(derivatives)
            );
    };
    return CutoffsOfCenters::apply(distances, centers, n_centers, launch);
}

Tensor grid_cutoffs(
    const Tensor& distances, const Tensor& centers, int64_t n_centers, double cutoff,
    const Tensor& probes_, double n_neighbors, double width, double floor
) {
    const Tensor probes = dense(probes_, torch::kFloat64);
    const GridAims aims{cutoff, in<double>(probes), probes.numel(), n_neighbors, width, floor};
    const auto launch = [&](const Where& where, const Tensor& r, const Tensor& starts,
                            const Tensor& cutoffs, const Tensor& derivatives) {
        const Tensor scratch = torch::empty({n_centers, 4, probes.numel()}, r.options());
        list_kernels(where.on_gpu)
            .grid(
                where, in<double>(r), in<int64_t>(starts), n_centers, aims, out<double>(scratch),
                out<double>(cutoffs), out<double>(derivatives)
            );
    };
    return CutoffsOfCenters::apply(distances, centers, n_centers, launch);
}

} // namespace petmad::cuda

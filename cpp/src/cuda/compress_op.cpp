// The first products of a GNN layer on GPUs; what depends on species alone is in a table.
#include <torch/csrc/autograd/custom_function.h>

#include "../cpu/rows.h"
#include "network_ops.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Weights {
    Tensor table, w_geometry, w_message, w_out, b_out;

    void check(const Tensor& geometry, const Tensor& messages, const Tensor& species) const {
        cpu::check_frozen({table, w_geometry, w_message, w_out, b_out});
        const int64_t n_rows = geometry.size(0);
        const int64_t h = table.size(1);
        PETMAD_CHECK(
            geometry.size(1) == 4 && messages.size(0) == n_rows && species.numel() == n_rows,
            "compress: geometry ", geometry.sizes(), ", messages ", messages.sizes(),
            " and species ", species.sizes(), " do not fit together",
            "; pass one row per edge, geometry of width 4"
        );
        PETMAD_CHECK(
            w_geometry.size(0) == 4 && w_geometry.size(1) == h && w_message.size(0) == h
                && w_message.size(1) == messages.size(1) && w_out.size(1) == h
                && b_out.numel() == w_out.size(0),
            "compress: weights ", w_geometry.sizes(), ", ", w_message.sizes(), ", ", w_out.sizes(),
            " and ", b_out.sizes(), " do not fit a table ", table.sizes(),
            "; pass the layer's own weights"
        );
        check_alike({geometry, messages, table, w_geometry, w_message, w_out, b_out}, "compress");
    }
};

/// Species are checked where the caller's arrays are on the host; here that would stop the stream.
struct Compress : torch::autograd::Function<Compress> {
    static Tensor forward(
        AutogradContext* context, const Tensor& geometry_, const Tensor& messages_,
        const Tensor& species_, const Weights& weights
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        weights.check(geometry_, messages_, species_);
        const c10::DeviceGuard guard(geometry_.device());
        const Tensor geometry = dense(geometry_);
        const Tensor messages = dense(messages_);
        const Tensor species = dense(species_);
        const int64_t n_rows = geometry.size(0);
        const int64_t h = weights.table.size(1);
        const Tensor shared = messages.size(1) > 0 ? product(messages, weights.w_message.t())
                                                   : torch::empty({0}, geometry.options());
        const Tensor inner =
            shared.numel() > 0 ? shared : torch::empty({n_rows, h}, geometry.options());
        const Tensor activated = torch::empty({n_rows, h}, geometry.options());
        const Where where = where_of(geometry);
        AT_DISPATCH_FLOATING_TYPES(geometry.scalar_type(), "petmad::compress", [&] {
            network_of<scalar_t>(where).embed(
                where, in_or_null<scalar_t>(shared), in<scalar_t>(geometry),
                in<scalar_t>(weights.w_geometry), in<scalar_t>(weights.table), in<int64_t>(species),
                n_rows, h, out<scalar_t>(inner), out<scalar_t>(activated)
            );
        });
        const Tensor tokens = product_plus(activated, weights.w_out.t(), weights.b_out);
        context->save_for_backward({inner, weights.w_geometry, weights.w_message, weights.w_out});
        return tokens;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &inner = s[0], &w_geometry = s[1], &w_message = s[2], &w_out = s[3];
        const c10::DeviceGuard guard(inner.device());
        const Tensor d_activated = product(gradients[0].contiguous(), w_out);
        const Tensor du = torch::empty_like(inner);
        const Tensor d_geometry = torch::empty({inner.size(0), 4}, inner.options());
        const Where where = where_of(inner);
        AT_DISPATCH_FLOATING_TYPES(inner.scalar_type(), "petmad::compress backward", [&] {
            network_of<scalar_t>(where).embed_backward(
                where, in<scalar_t>(inner), in<scalar_t>(d_activated), in<scalar_t>(w_geometry),
                inner.size(0), inner.size(1), out<scalar_t>(du), out<scalar_t>(d_geometry)
            );
        });
        const Tensor d_messages = w_message.size(1) > 0
                                      ? product(du, w_message)
                                      : torch::empty({inner.size(0), 0}, inner.options());
        return {d_geometry, d_messages, Tensor(), Tensor()};
    }
};

} // namespace

Tensor compress(
    const Tensor& geometry, const Tensor& messages, const Tensor& species, const Tensor& table,
    const Tensor& w_geometry, const Tensor& w_message, const Tensor& w_out, const Tensor& b_out
) {
    return Compress::apply(
        geometry, messages, species, Weights{table, w_geometry, w_message, w_out, b_out}
    );
}

} // namespace petmad::cuda

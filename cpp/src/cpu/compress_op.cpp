// The first products of a GNN layer, with everything that depends on species alone in a table.
#include "compress_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"
#include "rows.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_species(const Tensor& species, int64_t n_species) {
    const auto* values = in<int64_t>(species);
    for (int64_t e = 0; e < species.numel(); ++e) {
        PETMAD_CHECK(
            values[e] >= 0 && values[e] < n_species, "species of edge ", e, " is ", values[e],
            "; the model has species 0 to ", n_species - 1
        );
    }
}

void check_shapes(
    const Tensor& geometry, const Tensor& messages, const Tensor& species, const Tensor& table,
    const Tensor& w_geometry, const Tensor& w_message, const Tensor& w_out, const Tensor& b_out
) {
    const int64_t n_rows = geometry.size(0);
    const int64_t h = table.size(1);
    PETMAD_CHECK(
        geometry.size(1) == 4 && messages.size(0) == n_rows && species.numel() == n_rows,
        "compress: geometry ", geometry.sizes(), ", messages ", messages.sizes(), " and species ",
        species.sizes(), " do not fit together", "; pass one row per edge, geometry of width 4"
    );
    PETMAD_CHECK(
        w_geometry.size(0) == 4 && w_geometry.size(1) == h && w_message.size(0) == h
            && w_message.size(1) == messages.size(1) && w_out.size(1) == h
            && b_out.numel() == w_out.size(0),
        "compress: weights ", w_geometry.sizes(), ", ", w_message.sizes(), ", ", w_out.sizes(),
        " and ", b_out.sizes(), " do not fit a table ", table.sizes(),
        "; pass the layer's own weights"
    );
}

struct Compress : torch::autograd::Function<Compress> {
    static Tensor forward(
        AutogradContext* context, const Tensor& geometry_, const Tensor& messages_,
        const Tensor& species_, const Tensor& table, const Tensor& w_geometry,
        const Tensor& w_message, const Tensor& w_out, const Tensor& b_out
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        check_frozen({table, w_geometry, w_message, w_out, b_out});
        const Tensor geometry = geometry_.detach().contiguous();
        const Tensor messages = messages_.detach().contiguous();
        const Tensor species = species_.detach().contiguous();
        check_shapes(geometry, messages, species, table, w_geometry, w_message, w_out, b_out);
        check_species(species, table.size(0));
        const int64_t n_rows = geometry.size(0);
        const int64_t h = table.size(1);
        Tensor inner = torch::empty({n_rows, h}, geometry.options());
        Tensor tokens = torch::empty({n_rows, w_out.size(0)}, geometry.options());
        AT_DISPATCH_FLOATING_TYPES(geometry.scalar_type(), "petmad::compress", [&] {
            const auto& kernel = kernels<scalar_t>();
            for_blocks(n_rows, [&](int64_t first, int64_t n) {
                Tensor u = inner.narrow(0, first, n);
                if (messages.size(1) > 0) {
                    multiply(u, messages.narrow(0, first, n), w_message.t());
                } else {
                    u.zero_();
                }
                kernel.add_geometry(
                    in<scalar_t>(geometry) + 4 * first, in<scalar_t>(w_geometry),
                    in<scalar_t>(table), in<int64_t>(species) + first, n, h, out<scalar_t>(u)
                );
                Tensor activated = torch::empty({n, h}, geometry.options());
                kernel.silu(in<scalar_t>(u), n * h, out<scalar_t>(activated));
                Tensor block = tokens.narrow(0, first, n);
                multiply(block, activated, w_out.t());
                kernel.add_bias(in<scalar_t>(b_out), n, w_out.size(0), out<scalar_t>(block));
            });
        });
        context->save_for_backward({inner, w_geometry, w_message, w_out});
        context->saved_data["message_width"] = messages.size(1);
        return tokens;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &inner = s[0], &w_geometry = s[1], &w_message = s[2], &w_out = s[3];
        const int64_t h = inner.size(1);
        const Tensor dy = gradients[0].contiguous();
        Tensor d_geometry = torch::empty({inner.size(0), 4}, inner.options());
        Tensor d_messages = torch::empty(
            {inner.size(0), context->saved_data["message_width"].toInt()}, inner.options()
        );
        AT_DISPATCH_FLOATING_TYPES(inner.scalar_type(), "petmad::compress backward", [&] {
            for_blocks(inner.size(0), [&](int64_t first, int64_t n) {
                Tensor d_activated = torch::empty({n, h}, inner.options());
                multiply(d_activated, dy.narrow(0, first, n), w_out);
                Tensor du = torch::empty({n, h}, inner.options());
                kernels<scalar_t>().silu_backward(
                    in<scalar_t>(inner) + first * h, in<scalar_t>(d_activated), n * h,
                    out<scalar_t>(du)
                );
                multiply(d_geometry.narrow(0, first, n), du, w_geometry.t());
                if (d_messages.size(1) > 0) {
                    multiply(d_messages.narrow(0, first, n), du, w_message);
                }
            });
        });
        return {d_geometry, d_messages, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

Tensor compress(
    const Tensor& geometry, const Tensor& messages, const Tensor& species, const Tensor& table,
    const Tensor& w_geometry, const Tensor& w_message, const Tensor& w_out, const Tensor& b_out
) {
    return Compress::apply(geometry, messages, species, table, w_geometry, w_message, w_out, b_out);
}

} // namespace petmad::cpu

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

struct Compress : torch::autograd::Function<Compress> {
    static Tensor forward(
        AutogradContext* context, const Tensor& geometry_, const Tensor& messages_,
        const Tensor& species_, const CompressWeights& weights
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor geometry = geometry_.detach().contiguous();
        const Tensor messages = messages_.detach().contiguous();
        const Tensor species = species_.detach().contiguous();
        weights.check(geometry, messages, species);
        Tensor inner = torch::empty({geometry.size(0), weights.inner()}, geometry.options());
        Tensor tokens = torch::empty({geometry.size(0), weights.w_out.size(0)}, geometry.options());
        compress_forward(weights, geometry, messages, species, inner, tokens);
        context->save_for_backward({inner, weights.w_geometry, weights.w_message, weights.w_out});
        context->saved_data["message_width"] = messages.size(1);
        return tokens;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor& inner = s[0];
        Tensor d_geometry = torch::empty({inner.size(0), 4}, inner.options());
        Tensor d_messages = torch::empty(
            {inner.size(0), context->saved_data["message_width"].toInt()}, inner.options()
        );
        const CompressWeights weights{Tensor(), s[1], s[2], s[3], Tensor()};
        compress_backward(weights, inner, gradients[0].contiguous(), d_geometry, d_messages);
        return {d_geometry, d_messages, Tensor(), Tensor()};
    }
};

} // namespace

void CompressWeights::check(
    const Tensor& geometry, const Tensor& messages, const Tensor& species
) const {
    check_frozen({table, w_geometry, w_message, w_out, b_out});
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
    check_species(species, table.size(0));
}

void compress_forward(
    const CompressWeights& weights, const Tensor& geometry, const Tensor& messages,
    const Tensor& species, Tensor inner, Tensor tokens
) {
    const int64_t h = weights.inner();
    const int64_t width = messages.size(1);
    const int64_t d = weights.w_out.size(0);
    AT_DISPATCH_FLOATING_TYPES(geometry.scalar_type(), "petmad::compress", [&] {
        const Factor<scalar_t> of_message(weights.w_message, Direction::forward);
        const Factor<scalar_t> last(weights.w_out, Direction::forward, weights.b_out);
        for_blocks(geometry.size(0), [&](int64_t first, int64_t n) {
            scalar_t* u = out<scalar_t>(inner) + first * h;
            if (width > 0) {
                of_message(in<scalar_t>(messages) + first * width, n, u);
            } else {
                std::fill_n(u, n * h, scalar_t(0));
            }
            kernels<scalar_t>().add_geometry(
                in<scalar_t>(geometry) + 4 * first, in<scalar_t>(weights.w_geometry),
                in<scalar_t>(weights.table), in<int64_t>(species) + first, n, h, u
            );
            Scratch<scalar_t> activated(n, h, geometry);
            kernels<scalar_t>().silu(u, n * h, activated);
            last(activated, n, out<scalar_t>(tokens) + first * d);
        });
    });
}

void compress_backward(
    const CompressWeights& weights, const Tensor& inner, const Tensor& dy, Tensor d_geometry,
    Tensor d_messages
) {
    const int64_t h = inner.size(1);
    const int64_t d = weights.w_out.size(0);
    const int64_t width = d_messages.defined() ? d_messages.size(1) : 0;
    AT_DISPATCH_FLOATING_TYPES(inner.scalar_type(), "petmad::compress backward", [&] {
        const Factor<scalar_t> last(weights.w_out, Direction::backward);
        const Factor<scalar_t> of_geometry(weights.w_geometry, Direction::forward);
        const Factor<scalar_t> of_message(weights.w_message, Direction::backward);
        for_blocks(inner.size(0), [&](int64_t first, int64_t n) {
            Scratch<scalar_t> d_activated(n, h, inner);
            last(in<scalar_t>(dy) + first * d, n, d_activated);
            Scratch<scalar_t> du(n, h, inner);
            kernels<scalar_t>().silu_backward(
                in<scalar_t>(inner) + first * h, d_activated, n * h, du
            );
            of_geometry(du, n, out<scalar_t>(d_geometry) + 4 * first);
            if (width > 0) {
                of_message(du, n, out<scalar_t>(d_messages) + first * width);
            }
        });
    });
}

Tensor compress(
    const Tensor& geometry, const Tensor& messages, const Tensor& species, const Tensor& table,
    const Tensor& w_geometry, const Tensor& w_message, const Tensor& w_out, const Tensor& b_out
) {
    const CompressWeights weights{table, w_geometry, w_message, w_out, b_out};
    return Compress::apply(geometry, messages, species, weights);
}

} // namespace petmad::cpu

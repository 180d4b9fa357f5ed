// Linear layers with what surrounds them, on GPUs: each product is one call of the matrix library,
// what lies between two of them one kernel.
#include <torch/csrc/autograd/custom_function.h>

#include "../memory_plan.h"
#include "network_ops.h"
#include "row_steps.h"

namespace petmad::cuda {
namespace {

using cpu::NormKind;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What is fixed while rows pass through.
struct Layers {
    Norm norm;
    Tensor w_in, b_in, w_out, b_out;
    bool gated, residual, activate_output;

    void check(const Tensor& x) const {
        cpu::check_frozen({norm.gain, norm.bias, w_in, b_in, w_out, b_out});
        PETMAD_CHECK(
            x.dim() == 2 && x.size(1) == w_in.size(1)
                && w_in.size(0) == (gated ? 2 : 1) * w_out.size(1)
                && (!residual || w_out.size(0) == x.size(1)) && b_in.numel() == w_in.size(0)
                && b_out.numel() == w_out.size(0),
            "mlp: rows ", x.sizes(), " do not fit weights ", w_in.sizes(), " and ", w_out.sizes(),
            "; pass the layer's own weights"
        );
        norm.check(x.size(1));
        check_alike({x, w_in, b_in, w_out, b_out}, "mlp");
    }
};

struct Mlp : torch::autograd::Function<Mlp> {
    static Tensor forward(AutogradContext* context, const Tensor& x_, const Layers& layers) {
        const at::AutoDispatchBelowADInplaceOrView below;
        layers.check(x_);
        const c10::DeviceGuard guard(x_.device());
        const Tensor x = dense(x_);
        Tensor statistics;
        const Tensor inner = product(layers.norm.forward(x, statistics), layers.w_in.t());
        const Tensor activated = activate(inner, layers.b_in, layers.gated);
        Tensor before = torch::empty({0}, x.options());
        Tensor y;
        if (layers.activate_output) {
            before = product(activated, layers.w_out.t());
            y = activate(before, layers.b_out, false);
            y = layers.residual ? y + x : y;
        } else if (layers.residual) {
            y = product(activated, layers.w_out.t());
            add_bias(y, layers.b_out, x, Tensor());
        } else {
            y = product_plus(activated, layers.w_out.t(), layers.b_out);
        }
        const Norm& norm = layers.norm;
        const bool keeps = memory_tier() == MemoryTier::keep;
        context->save_for_backward(
            {x, statistics, keeps ? inner : torch::empty({0}, x.options()), before, norm.gain,
             norm.bias, layers.w_in, layers.b_in, layers.w_out, layers.b_out}
        );
        context->saved_data["norm"] = static_cast<int64_t>(norm.kind);
        context->saved_data["epsilon"] = norm.epsilon;
        context->saved_data["gated"] = layers.gated;
        context->saved_data["residual"] = layers.residual;
        context->saved_data["activate_output"] = layers.activate_output;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const auto flag = [&](const char* name) { return context->saved_data[name].toBool(); };
        const Norm norm{
            static_cast<NormKind>(context->saved_data["norm"].toInt()), s[4], s[5],
            context->saved_data["epsilon"].toDouble()
        };
        const Tensor &x = s[0], &statistics = s[1], &before = s[3];
        const Tensor &w_in = s[6], &b_in = s[7], &w_out = s[8], &b_out = s[9];
        const c10::DeviceGuard guard(x.device());
        Tensor again;
        const bool kept = s[2].dim() == 2;
        const Tensor inner = kept ? s[2] : product(norm.forward(x, again), w_in.t());
        const Tensor dy = gradients[0].contiguous();
        const Tensor d_product =
            flag("activate_output") ? activate_backward(before, b_out, dy, false) : dy;
        const Tensor du = activate_backward(inner, b_in, product(d_product, w_out), flag("gated"));
        const Tensor direct = flag("residual") ? dy : Tensor();
        return {norm.backward(x, statistics, product(du, w_in), direct), Tensor()};
    }
};

/// The norm and one product: queries, keys and values of the attention.
struct NormLinear : torch::autograd::Function<NormLinear> {
    static Tensor forward(
        AutogradContext* context, const Tensor& x_, const Norm& norm, const Tensor& w,
        const Tensor& b
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        cpu::check_frozen({norm.gain, norm.bias, w, b});
        PETMAD_CHECK(
            x_.dim() == 2 && x_.size(1) == w.size(1) && b.numel() == w.size(0),
            "norm_linear: rows ", x_.sizes(), " do not fit weights ", w.sizes(), " and biases ",
            b.sizes(), "; pass the layer's own weights"
        );
        norm.check(x_.size(1));
        check_alike({x_, w, b}, "norm_linear");
        const c10::DeviceGuard guard(x_.device());
        const Tensor x = dense(x_);
        Tensor statistics;
        const Tensor y = product_plus(norm.forward(x, statistics), w.t(), b);
        const bool is_normed = norm.kind != NormKind::none; // else the rows are not needed again
        context->save_for_backward(
            {is_normed ? x : torch::empty({0}, x.options()), statistics, norm.gain, norm.bias, w}
        );
        context->saved_data["norm"] = static_cast<int64_t>(norm.kind);
        context->saved_data["epsilon"] = norm.epsilon;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const Norm norm{
            static_cast<NormKind>(context->saved_data["norm"].toInt()), s[2], s[3],
            context->saved_data["epsilon"].toDouble()
        };
        const c10::DeviceGuard guard(s[4].device());
        const Tensor d_normed = product(gradients[0].contiguous(), s[4]);
        const Tensor dx = norm.backward(s[0], s[1], d_normed, Tensor());
        return {dx, Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

Tensor
mlp(const Tensor& x, const std::string& norm, const Tensor& gain, const Tensor& bias,
    double epsilon, const Tensor& w_in, const Tensor& b_in, const Tensor& w_out,
    const Tensor& b_out, const std::string& activation, bool residual, bool activate_output) {
    PETMAD_CHECK(
        activation == "SwiGLU" || activation == "SiLU", "`activation` is '", activation, "'",
        "; it must be SwiGLU or SiLU"
    );
    const Norm of_rows{cpu::norm_kind(norm), gain, bias, epsilon};
    return Mlp::apply(
        x,
        Layers{of_rows, w_in, b_in, w_out, b_out, activation == "SwiGLU", residual, activate_output}
    );
}

Tensor norm_linear(
    const Tensor& x, const std::string& norm, const Tensor& gain, const Tensor& bias,
    double epsilon, const Tensor& w, const Tensor& b
) {
    return NormLinear::apply(x, Norm{cpu::norm_kind(norm), gain, bias, epsilon}, w, b);
}

} // namespace petmad::cuda

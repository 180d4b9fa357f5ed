// The row operators as autograd sees them; the rows' own way is in mlp_rows.cpp.
#include "mlp_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "../memory_plan.h"
#include "mlp_rows.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Mlp : torch::autograd::Function<Mlp> {
    static Tensor forward(AutogradContext* context, const Tensor& x_, const MlpWeights& weights) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor x = x_.detach().contiguous();
        weights.check(x);
        MlpKept kept;
        Tensor y = torch::empty({x.size(0), weights.second.w.size(0)}, x.options());
        mlp_forward(weights, x, memory_tier() == MemoryTier::keep, kept, y);
        context->save_for_backward(
            {x, kept.statistics, kept.inner, kept.output, weights.norm.gain, weights.norm.bias,
             weights.first.w, weights.first.b, weights.second.w, weights.second.b}
        );
        context->saved_data["norm"] = static_cast<int64_t>(weights.norm.kind);
        context->saved_data["epsilon"] = weights.norm.epsilon;
        context->saved_data["gated"] = weights.gated;
        context->saved_data["residual"] = weights.residual;
        context->saved_data["activate_output"] = weights.activate_output;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const auto flag = [&](const char* name) { return context->saved_data[name].toBool(); };
        const MlpWeights weights{
            {static_cast<NormKind>(context->saved_data["norm"].toInt()), s[4], s[5],
             context->saved_data["epsilon"].toDouble()},
            {s[6], s[7]},
            {s[8], s[9]},
            flag("gated"),
            flag("residual"),
            flag("activate_output"),
        };
        Tensor dx = torch::empty_like(s[0]);
        mlp_backward(weights, s[0], {s[1], s[2], s[3]}, gradients[0].contiguous(), dx);
        return {dx, Tensor()};
    }
};

/// The norm and one product: queries, keys and values of the attention.
struct NormLinear : torch::autograd::Function<NormLinear> {
    static Tensor forward(
        AutogradContext* context, const Tensor& x_, const NormWeights& norm,
        const LinearWeights& linear
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        check_frozen({norm.gain, norm.bias});
        const Tensor x = x_.detach().contiguous();
        linear.check(x, "norm_linear");
        const Tensor statistics = empty_statistics(norm, x);
        Tensor y = torch::empty({x.size(0), linear.w.size(0)}, x.options());
        norm_linear_forward(norm, linear, x, statistics, y);
        context->save_for_backward({x, statistics, norm.gain, norm.bias, linear.w});
        context->saved_data["norm"] = static_cast<int64_t>(norm.kind);
        context->saved_data["epsilon"] = norm.epsilon;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const NormWeights norm{
            static_cast<NormKind>(context->saved_data["norm"].toInt()), s[2], s[3],
            context->saved_data["epsilon"].toDouble()
        };
        Tensor dx = torch::zeros_like(s[0]);
        norm_linear_backward(norm, {s[4], Tensor()}, s[0], s[1], gradients[0].contiguous(), dx);
        return {dx, Tensor(), Tensor()};
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
    return Mlp::apply(
        x, MlpWeights{
               {norm_kind(norm), gain, bias, epsilon},
               {w_in, b_in},
               {w_out, b_out},
               activation == "SwiGLU",
               residual,
               activate_output
           }
    );
}

Tensor norm_linear(
    const Tensor& x, const std::string& norm, const Tensor& gain, const Tensor& bias,
    double epsilon, const Tensor& w, const Tensor& b
) {
    return NormLinear::apply(
        x, NormWeights{norm_kind(norm), gain, bias, epsilon}, LinearWeights{w, b}
    );
}

} // namespace petmad::cpu

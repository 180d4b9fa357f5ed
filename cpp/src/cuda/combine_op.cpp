// What an edge and its reversed one tell each other, on GPUs: the norm reads both arrays and writes
// the normed rows beside each other, so the rows themselves are never joined.
#include <torch/csrc/autograd/custom_function.h>

#include "../cpu/combine_op.h"
#include "../memory_plan.h"
#include "network_ops.h"
#include "row_steps.h"

namespace petmad::cuda {
namespace {

using cpu::CombineWeights;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Combine : torch::autograd::Function<Combine> {
    static Tensor forward(
        AutogradContext* context, const Tensor& messages_, const Tensor& rows_,
        const Tensor& reversed_, const CombineWeights& w
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        w.check(messages_, rows_, reversed_);
        const Norm norm{w.norm, w.gain, w.bias, w.epsilon};
        PETMAD_CHECK(w.norm != cpu::NormKind::none, "combine has no norm; pass that of the layer");
        norm.check(2 * rows_.size(1));
        check_alike(
            {messages_, rows_, reversed_, w.gain, w.w_in, w.b_in, w.w_out, w.b_out}, "combine"
        );
        const c10::DeviceGuard guard(rows_.device());
        const Tensor rows = dense(rows_);
        const Tensor reversed = dense(reversed_);
        Tensor statistics;
        const Tensor inner = product(norm.forward(rows, reversed, statistics), w.w_in.t());
        const Tensor y = product(activate(inner, w.b_in, false), w.w_out.t());
        add_bias(y, w.b_out, rows, dense(messages_));
        const bool keeps = memory_tier() == MemoryTier::keep;
        context->save_for_backward(
            {rows, reversed, statistics, keeps ? inner : torch::empty({0}, rows.options()), w.gain,
             w.bias, w.w_in, w.b_in, w.w_out}
        );
        context->saved_data["norm"] = static_cast<int64_t>(w.norm);
        context->saved_data["epsilon"] = w.epsilon;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &rows = s[0], &reversed = s[1], &statistics = s[2];
        const Tensor &w_in = s[6], &b_in = s[7], &w_out = s[8];
        const Norm norm{
            static_cast<cpu::NormKind>(context->saved_data["norm"].toInt()), s[4], s[5],
            context->saved_data["epsilon"].toDouble()
        };
        const c10::DeviceGuard guard(rows.device());
        Tensor again;
        const bool kept = s[3].dim() == 2;
        Tensor inner = kept ? s[3] : product(norm.forward(rows, reversed, again), w_in.t());
        const Tensor dy = gradients[0].contiguous();
        const Tensor du = activate_backward(inner, b_in, product(dy, w_out), false);
        inner.reset(); // makes room for the next
        const auto [d_rows, d_reversed] =
            norm.backward(rows, reversed, statistics, product(du, w_in), dy);
        return {dy, d_rows, d_reversed, Tensor()};
    }
};

} // namespace

Tensor combine(
    const Tensor& messages, const Tensor& rows, const Tensor& reversed, const std::string& norm,
    const Tensor& gain, const Tensor& bias, double epsilon, const Tensor& w_in, const Tensor& b_in,
    const Tensor& w_out, const Tensor& b_out
) {
    return Combine::apply(
        messages, rows, reversed,
        CombineWeights{cpu::norm_kind(norm), gain, bias, epsilon, w_in, b_in, w_out, b_out}
    );
}

} // namespace petmad::cuda

// Attention and the sums over edges as differentiable operators on GPUs.
#include <torch/csrc/autograd/custom_function.h>

#include "../cpu/rows.h"
#include "network_ops.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check(const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, int64_t n_heads) {
    PETMAD_CHECK(
        qkv.dim() == 2 && n_heads > 0 && qkv.size(1) % (3 * n_heads) == 0 && starts.numel() > 0
            && starts.scalar_type() == torch::kInt64
            && qkv.size(0) == starts.numel() - 1 + log_weights.numel(),
        "attention: qkv ", qkv.sizes(), ", log_weights ", log_weights.sizes(), ", starts ",
        starts.sizes(), " and ", n_heads, " heads do not fit together",
        "; pass one row per center and edge, and 3 d_pet columns"
    );
    PETMAD_CHECK(
        qkv.size(1) <= 3 * n_heads * most_d_head, "attention: heads are ",
        qkv.size(1) / (3 * n_heads), " wide, the kernels take at most ", most_d_head,
        "; use more heads, or evaluate the checkpoint with plain torch"
    );
    check_alike({qkv, log_weights}, "attention");
}

template <typename T>
Tokens<T> tokens_of(
    const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, int64_t n_heads,
    double scale
) {
    return {
        in<T>(qkv),
        in<T>(log_weights),
        in<int64_t>(starts),
        starts.numel() - 1,
        static_cast<int>(n_heads),
        static_cast<int>(qkv.size(1) / (3 * n_heads)),
        static_cast<T>(scale),
    };
}

struct Attention : torch::autograd::Function<Attention> {
    static Tensor forward(
        AutogradContext* context, const Tensor& qkv_, const Tensor& log_weights_,
        const Tensor& starts, int64_t n_heads, double scale
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        check(qkv_, log_weights_, starts, n_heads);
        const c10::DeviceGuard guard(qkv_.device());
        const Tensor qkv = dense(qkv_);
        const Tensor log_weights = dense(log_weights_);
        const Where where = where_of(qkv);
        const Tensor mixed = torch::empty({qkv.size(0), qkv.size(1) / 3}, qkv.options());
        const Tensor log_sums = torch::empty({qkv.size(0), n_heads}, qkv.options());
        AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "petmad::attention", [&] {
            network_of<scalar_t>(where).attention(
                where, tokens_of<scalar_t>(qkv, log_weights, starts, n_heads, scale),
                out<scalar_t>(mixed), out<scalar_t>(log_sums)
            );
        });
        context->save_for_backward({qkv, log_weights, starts, mixed, log_sums});
        context->saved_data["n_heads"] = n_heads;
        context->saved_data["scale"] = scale;
        return mixed;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &qkv = s[0], &mixed = s[3], &log_sums = s[4];
        const c10::DeviceGuard guard(qkv.device());
        const Tensor d_mixed = gradients[0].contiguous();
        const int64_t n_heads = context->saved_data["n_heads"].toInt();
        const double scale = context->saved_data["scale"].toDouble();
        const Where where = where_of(qkv);
        const Tensor dots = torch::empty_like(log_sums);
        const Tensor d_qkv = torch::empty_like(qkv);
        const Tensor d_log_weights = torch::empty({s[1].numel(), n_heads}, qkv.options());
        AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "petmad::attention backward", [&] {
            network_of<scalar_t>(where).attention_backward(
                where, tokens_of<scalar_t>(qkv, s[1], s[2], n_heads, scale), in<scalar_t>(mixed),
                in<scalar_t>(log_sums), in<scalar_t>(d_mixed), out<scalar_t>(dots),
                out<scalar_t>(d_qkv), out<scalar_t>(d_log_weights)
            );
        });
        return {d_qkv, d_log_weights.sum(1), Tensor(), Tensor(), Tensor()};
    }
};

struct SumByCenter : torch::autograd::Function<SumByCenter> {
    static Tensor forward(
        AutogradContext* context, const Tensor& rows_, const Tensor& weights_, const Tensor& starts,
        const Tensor& base
    ) {
        const at::AutoDispatchBelowADInplaceOrView below;
        PETMAD_CHECK(
            rows_.dim() == 2 && base.dim() == 2 && rows_.size(1) == base.size(1)
                && (weights_.numel() == rows_.size(0) || weights_.numel() == 0)
                && starts.numel() == base.size(0) + 1,
            "sum_by_center: rows ", rows_.sizes(), ", weights ", weights_.sizes(), ", starts ",
            starts.sizes(), " and base ", base.sizes(), " do not fit together",
            "; pass one row and weight (or none) per edge, one start per center and the end"
        );
        check_alike({rows_, weights_, base}, "sum_by_center");
        const c10::DeviceGuard guard(rows_.device());
        const Tensor rows = dense(rows_);
        const Tensor weights = dense(weights_);
        const Tensor start = dense(base);
        const Where where = where_of(rows);
        const Tensor sums = torch::empty_like(start);
        AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "petmad::sum_by_center", [&] {
            network_of<scalar_t>(where).sum_rows(
                where, in<scalar_t>(rows), in_or_null<scalar_t>(weights), in<int64_t>(starts),
                in<scalar_t>(start), start.size(0), start.size(1), out<scalar_t>(sums)
            );
        });
        const bool weighs = weights.numel() > 0;
        context->save_for_backward({weighs ? rows : weights, weights, starts});
        context->saved_data["n_rows"] = rows.size(0);
        return sums;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        cpu::check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &rows = s[0], &weights = s[1], &starts = s[2];
        const int64_t n_rows = context->saved_data["n_rows"].toInt();
        const Tensor of_edges = torch::repeat_interleave(gradients[0], starts.diff(), 0, n_rows);
        if (weights.numel() == 0) {
            return {of_edges, torch::zeros_like(weights), Tensor(), gradients[0]};
        }
        return {of_edges * weights.unsqueeze(1), (of_edges * rows).sum(1), Tensor(), gradients[0]};
    }
};

} // namespace

Tensor attention(
    const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, int64_t n_heads,
    double scale
) {
    return Attention::apply(qkv, log_weights, starts, n_heads, scale);
}

Tensor
sum_by_center(const Tensor& rows, const Tensor& weights, const Tensor& starts, const Tensor& base) {
    return SumByCenter::apply(rows, weights, starts, base);
}

} // namespace petmad::cuda

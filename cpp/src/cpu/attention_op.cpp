// Checks, scratch and threads around the attention kernels.
#include "attention_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"
#include "rows.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t centers_per_task = 16;

void check(const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, int64_t n_heads) {
    PETMAD_CHECK(
        qkv.dim() == 2 && n_heads > 0 && qkv.size(1) % (3 * n_heads) == 0 && starts.numel() > 0
            && starts.scalar_type() == torch::kInt64
            && qkv.size(0) == starts.numel() - 1 + log_weights.numel(),
        "attention: qkv ", qkv.sizes(), ", log_weights ", log_weights.sizes(), ", starts ",
        starts.sizes(), " and ", n_heads, " heads do not fit together",
        "; pass one row per center and edge, and 3 d_pet columns"
    );
    const auto* start = starts.const_data_ptr<int64_t>();
    PETMAD_CHECK(
        starts.is_contiguous() && start[0] == 0 && std::is_sorted(start, start + starts.numel())
            && start[starts.numel() - 1] == log_weights.numel(),
        "attention: starts must ascend from 0 to the number of edges, ", log_weights.numel(),
        ", in one piece; pass the first edge of each center, and the end"
    );
}

template <typename T>
AttentionInput<T>
input_of(const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, const Heads& heads) {
    AttentionInput<T> input;
    input.qkv = in<T>(qkv);
    input.log_weights = in<T>(log_weights);
    input.starts = in<int64_t>(starts);
    input.n_centers = starts.numel() - 1;
    input.n_heads = heads.n;
    input.d_head = qkv.size(1) / (3 * heads.n);
    input.scale = static_cast<T>(heads.scale);
    int64_t most = 1;
    for (int64_t i = 0; i < input.n_centers; ++i) {
        most = std::max(most, 1 + input.starts[i + 1] - input.starts[i]);
    }
    input.most_tokens = (most + columns_per_panel - 1) / columns_per_panel * columns_per_panel;
    return input;
}

/// Calls function(input with scratch, first, last) for runs of centers, on all threads.
template <typename T, typename Function>
void for_centers(const AttentionInput<T>& shared, const Tensor& like, const Function& function) {
    at::parallel_for(0, shared.n_centers, centers_per_task, [&](int64_t first, int64_t last) {
        Tensor scratch = torch::empty(
            {attention_scratch<T>(shared.most_tokens, shared.n_heads, shared.d_head)},
            like.options()
        );
        AttentionInput<T> input = shared;
        input.scratch = out<T>(scratch);
        function(input, first, last);
    });
}

struct Attention : torch::autograd::Function<Attention> {
    static Tensor forward(
        AutogradContext* context, const Tensor& qkv_, const Tensor& log_weights_,
        const Tensor& starts, int64_t n_heads, double scale
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor qkv = qkv_.detach().contiguous();
        const Tensor log_weights = log_weights_.detach().contiguous();
        Tensor mixed = attention_forward(qkv, log_weights, starts, {n_heads, scale});
        context->save_for_backward({qkv, log_weights, starts});
        context->saved_data["n_heads"] = n_heads;
        context->saved_data["scale"] = scale;
        return mixed;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const Heads heads{
            context->saved_data["n_heads"].toInt(), context->saved_data["scale"].toDouble()
        };
        Tensor d_qkv = torch::empty_like(s[0]);
        Tensor d_log_weights = torch::empty_like(s[1]);
        attention_backward(
            s[0], s[1], s[2], heads, gradients[0].contiguous(), d_qkv, d_log_weights
        );
        return {d_qkv, d_log_weights, Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

Tensor attention_forward(
    const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, const Heads& heads
) {
    check(qkv, log_weights, starts, heads.n);
    Tensor mixed = torch::empty({qkv.size(0), qkv.size(1) / 3}, qkv.options());
    AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "petmad::attention", [&] {
        const auto input = input_of<scalar_t>(qkv, log_weights, starts, heads);
        for_centers(input, qkv, [&](const auto& mine, int64_t first, int64_t last) {
            kernels<scalar_t>().attention(mine, first, last, out<scalar_t>(mixed));
        });
    });
    return mixed;
}

void attention_backward(
    const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, const Heads& heads,
    const Tensor& d_mixed, Tensor d_qkv, Tensor d_log_weights
) {
    AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "petmad::attention backward", [&] {
        const auto input = input_of<scalar_t>(qkv, log_weights, starts, heads);
        for_centers(input, qkv, [&](const auto& mine, int64_t first, int64_t last) {
            kernels<scalar_t>().attention_backward(
                mine, in<scalar_t>(d_mixed), first, last, out<scalar_t>(d_qkv),
                out<scalar_t>(d_log_weights)
            );
        });
    });
}

Tensor attention(
    const Tensor& qkv, const Tensor& log_weights, const Tensor& starts, int64_t n_heads,
    double scale
) {
    return Attention::apply(qkv, log_weights, starts, n_heads, scale);
}

} // namespace petmad::cpu

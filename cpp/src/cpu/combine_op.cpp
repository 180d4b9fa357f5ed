// Forward and input-gradient backward, block by block: the two halves meet in scratch alone.
#include "combine_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "../memory_plan.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Rows of both halves beside each other, [n, 2 d].
template <typename T> void join(const T* left, const T* right, int64_t n, int64_t d, T* joined) {
    for (int64_t row = 0; row < n; ++row, left += d, right += d, joined += 2 * d) {
        std::copy_n(left, d, joined);
        std::copy_n(right, d, joined + d);
    }
}

template <typename T>
void forward_rows(
    const CombineWeights& weights, const Tensor& messages, const Tensor& rows,
    const Tensor& reversed, const Tensor& statistics, const Tensor& inner, Tensor& result
) {
    const int64_t d = rows.size(1);
    const int64_t h = weights.w_in.size(0);
    const Norm<T> norm(weights.norm, weights.gain, weights.bias, weights.epsilon, 2 * d);
    const Factor<T> first(weights.w_in, Direction::forward, weights.b_in);
    const Factor<T> second(weights.w_out, Direction::forward, weights.b_out);
    for_blocks(rows.size(0), [&](int64_t start, int64_t n) {
        Scratch<T> joined(n, 2 * d, rows);
        Scratch<T> room(n, std::max(2 * d, h), rows);
        join(in<T>(rows) + start * d, in<T>(reversed) + start * d, n, d, joined.data());
        KeptRows<T> u(inner, start, n, h, rows);
        KeptRows<T> kept(statistics, start, n, statistics_width(weights.norm), rows);
        first(norm.of(joined, n, room, kept), n, u);
        kernels<T>().silu(u, n * h, room);
        T* y = out<T>(result) + start * d;
        second(room, n, y);
        kernels<T>().add(in<T>(messages) + start * d, n * d, y);
        kernels<T>().add(in<T>(rows) + start * d, n * d, y);
    });
}

template <typename T>
void backward_rows(
    const CombineWeights& weights, const variable_list& kept, const Tensor& dy, Tensor& d_rows,
    Tensor& d_reversed
) {
    const Tensor &rows = kept[0], &reversed = kept[1], &statistics = kept[2], &inner = kept[3];
    const int64_t d = rows.size(1);
    const int64_t h = weights.w_in.size(0);
    const Norm<T> norm(weights.norm, weights.gain, weights.bias, weights.epsilon, 2 * d);
    const Factor<T> first(weights.w_in, Direction::backward);
    const Factor<T> second(weights.w_out, Direction::backward);
    const Factor<T> first_again(weights.w_in, Direction::forward, weights.b_in);
    for_blocks(rows.size(0), [&](int64_t start, int64_t n) {
        Scratch<T> d_activated(n, std::max(h, 2 * d), rows);
        Scratch<T> du(n, std::max(h, 2 * d), rows);
        Scratch<T> joined(n, 2 * d, rows);
        KeptRows<T> u(inner, start, n, h, rows);
        KeptRows<T> of_rows(statistics, start, n, statistics_width(weights.norm), rows);
        join(in<T>(rows) + start * d, in<T>(reversed) + start * d, n, d, joined.data());
        if (!inner.defined()) {
            first_again(norm.of(joined, n, du, of_rows), n, u);
        }
        second(in<T>(dy) + start * d, n, d_activated);
        kernels<T>().silu_backward(u, d_activated, n * h, du);
        T* d_normed = d_activated;
        first(du, n, d_normed);
        T* d_joined = du;
        std::fill_n(d_joined, n * 2 * d, T(0));
        norm.backward(joined, of_rows, d_normed, n, d_joined);
        for (int64_t row = 0; row < n; ++row, d_joined += 2 * d) {
            const int64_t at = (start + row) * d;
            std::copy_n(in<T>(dy) + at, d, out<T>(d_rows) + at);
            kernels<T>().add(d_joined, d, out<T>(d_rows) + at);
            std::copy_n(d_joined + d, d, out<T>(d_reversed) + at);
        }
    });
}

struct Combine : torch::autograd::Function<Combine> {
    static Tensor forward(
        AutogradContext* context, const Tensor& messages_, const Tensor& rows_,
        const Tensor& reversed_, const CombineWeights& weights
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        weights.check(messages_, rows_, reversed_);
        const Tensor messages = messages_.detach().contiguous();
        const Tensor rows = rows_.detach().contiguous();
        const Tensor reversed = reversed_.detach().contiguous();
        Tensor statistics;
        Tensor inner;
        if (memory_tier() == MemoryTier::keep) {
            statistics =
                torch::empty({rows.size(0), statistics_width(weights.norm)}, rows.options());
            inner = torch::empty({rows.size(0), weights.w_in.size(0)}, rows.options());
        }
        Tensor result = torch::empty_like(rows);
        AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "petmad::combine", [&] {
            forward_rows<scalar_t>(weights, messages, rows, reversed, statistics, inner, result);
        });
        context->save_for_backward(
            {rows, reversed, statistics, inner, weights.gain, weights.bias, weights.w_in,
             weights.b_in, weights.w_out, weights.b_out}
        );
        context->saved_data["norm"] = static_cast<int64_t>(weights.norm);
        context->saved_data["epsilon"] = weights.epsilon;
        return result;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const CombineWeights weights{
            static_cast<NormKind>(context->saved_data["norm"].toInt()),
            s[4],
            s[5],
            context->saved_data["epsilon"].toDouble(),
            s[6],
            s[7],
            s[8],
            s[9],
        };
        const Tensor dy = gradients[0].contiguous();
        Tensor d_rows = torch::empty_like(s[0]);
        Tensor d_reversed = torch::empty_like(s[1]);
        AT_DISPATCH_FLOATING_TYPES(dy.scalar_type(), "petmad::combine backward", [&] {
            backward_rows<scalar_t>(weights, s, dy, d_rows, d_reversed);
        });
        return {dy, d_rows, d_reversed, Tensor()};
    }
};

/// result[e] = rows[indices[e]], 0 where the index is -1.
Tensor gathered(const Tensor& rows, const Tensor& indices) {
    const int64_t d = rows.size(1);
    Tensor result = torch::empty({indices.size(0), d}, rows.options());
    const auto* index = in<int64_t>(indices);
    AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "petmad::distinct_rows", [&] {
        const scalar_t* from = in<scalar_t>(rows);
        scalar_t* to = out<scalar_t>(result);
        at::parallel_for(0, indices.size(0), rows_per_block, [&](int64_t first, int64_t last) {
            for (int64_t e = first; e < last; ++e) {
                if (index[e] >= 0) {
                    std::copy_n(from + index[e] * d, d, to + e * d);
                } else {
                    std::fill_n(to + e * d, d, scalar_t(0));
                }
            }
        });
    });
    return result;
}

/// Where each of n rows went; -1 for those that went nowhere.
Tensor inverse_of(const Tensor& indices, int64_t n) {
    Tensor result = torch::full({n}, -1, torch::kInt64);
    auto* inverse = out<int64_t>(result);
    const auto* index = in<int64_t>(indices);
    for (int64_t e = 0; e < indices.size(0); ++e) {
        PETMAD_CHECK(
            index[e] >= 0 && index[e] < n && inverse[index[e]] < 0, "index of row ", e, " is ",
            index[e], "; indices must be distinct, and from 0 to ", n - 1
        );
        inverse[index[e]] = e;
    }
    return result;
}

struct DistinctRows : torch::autograd::Function<DistinctRows> {
    static Tensor forward(AutogradContext* context, const Tensor& rows_, const Tensor& indices_) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor rows = rows_.detach().contiguous();
        const Tensor indices = indices_.contiguous();
        PETMAD_CHECK(
            rows.dim() == 2 && indices.dim() == 1 && indices.scalar_type() == torch::kInt64,
            "distinct_rows: rows ", rows.sizes(), " and indices ", indices.sizes(), " of ",
            indices.scalar_type(), "; pass [n_rows, d] and int64 [n]"
        );
        context->save_for_backward({inverse_of(indices, rows.size(0))});
        return gathered(rows, indices);
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const Tensor inverse = context->get_saved_variables()[0];
        return {gathered(gradients[0].contiguous(), inverse), Tensor()};
    }
};

} // namespace

void CombineWeights::check(
    const Tensor& messages, const Tensor& rows, const Tensor& reversed
) const {
    check_frozen({gain, bias, w_in, b_in, w_out, b_out});
    PETMAD_CHECK(
        messages.dim() == 2 && messages.sizes() == rows.sizes() && rows.sizes() == reversed.sizes()
            && w_in.size(1) == 2 * rows.size(1) && w_out.size(1) == w_in.size(0)
            && w_out.size(0) == rows.size(1) && b_in.numel() == w_in.size(0)
            && b_out.numel() == w_out.size(0),
        "combine: messages ", messages.sizes(), ", rows ", rows.sizes(), " and reversed ",
        reversed.sizes(), " do not fit weights ", w_in.sizes(), " and ", w_out.sizes(),
        "; pass one row per edge in each, and the layer's own weights"
    );
}

Tensor combine(
    const Tensor& messages, const Tensor& rows, const Tensor& reversed, const std::string& norm,
    const Tensor& gain, const Tensor& bias, double epsilon, const Tensor& w_in, const Tensor& b_in,
    const Tensor& w_out, const Tensor& b_out
) {
    const CombineWeights weights{norm_kind(norm), gain, bias, epsilon, w_in, b_in, w_out, b_out};
    return Combine::apply(messages, rows, reversed, weights);
}

Tensor distinct_rows(const Tensor& rows, const Tensor& indices) {
    return DistinctRows::apply(rows, indices);
}

} // namespace petmad::cpu

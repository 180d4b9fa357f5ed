// Forward and input-gradient backward of the row operators, block by block.
#include "mlp_op.h"

#include <torch/csrc/autograd/custom_function.h>

#include "norm.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What is fixed while rows pass through.
struct Layers {
    NormKind norm;
    Tensor gain, bias;
    double epsilon;
    Tensor w_in, b_in, w_out, b_out;
    bool gated, residual, activate_output;

    int64_t inner() const { return w_out.size(1); }

    void check(const Tensor& x) const {
        check_frozen({gain, bias, w_in, b_in, w_out, b_out});
        PETMAD_CHECK(
            x.dim() == 2 && x.size(1) == w_in.size(1) && w_in.size(0) == (gated ? 2 : 1) * inner()
                && (!residual || w_out.size(0) == x.size(1)) && b_in.numel() == w_in.size(0)
                && b_out.numel() == w_out.size(0),
            "mlp: rows ", x.sizes(), " do not fit weights ", w_in.sizes(), " and ", w_out.sizes(),
            "; pass the layer's own weights"
        );
    }
};

/// What the backward pass reads again.
struct Kept {
    Tensor statistics; ///< of the norm
    Tensor inner;      ///< [n, rows of w_in] before the activation
    Tensor output;     ///< [n, d_out] before the last activation, if there is one
};

/// The layers as products and a norm.
template <typename T> struct Steps {
    Norm<T> norm;
    Factor<T> first, second;

    Steps(const Layers& layers, int64_t width, Direction direction)
        : norm(layers.norm, layers.gain, layers.bias, layers.epsilon, width),
          first(layers.w_in, direction, direction == Direction::forward ? layers.b_in : Tensor()),
          second(
              layers.w_out, direction, direction == Direction::forward ? layers.b_out : Tensor()
          ) {}
};

template <typename T>
void forward_block(
    const Layers& layers, const Steps<T>& steps, const Tensor& x_, int64_t start, int64_t n,
    Kept& kept, Tensor& y_
) {
    const int64_t d = x_.size(1);
    const int64_t h = layers.inner();
    const int64_t width = y_.size(1);
    const T* x = in<T>(x_) + start * d;
    T* u = out<T>(kept.inner) + start * kept.inner.size(1);
    T* y = out<T>(y_) + start * width;
    Scratch<T> room(n, std::max(d, h), x_);
    T* statistics = out<T>(kept.statistics) + start * statistics_width(layers.norm);
    steps.first(steps.norm.of(x, n, room, statistics), n, u);
    if (layers.gated) {
        kernels<T>().swiglu(u, n, h, room);
    } else {
        kernels<T>().silu(u, n * h, room);
    }
    if (layers.activate_output) {
        T* before = out<T>(kept.output) + start * width;
        steps.second(room, n, before);
        kernels<T>().silu(before, n * width, y);
    } else {
        steps.second(room, n, y);
    }
    if (layers.residual) {
        kernels<T>().add(x, n * width, y);
    }
}

template <typename T>
void backward_block(
    const Layers& layers, const Steps<T>& steps, const Tensor& x_, const Kept& kept,
    const Tensor& dy_, int64_t start, int64_t n, Tensor& dx_
) {
    const int64_t d = x_.size(1);
    const int64_t h = layers.inner();
    const int64_t width = dy_.size(1);
    const T* dy = in<T>(dy_) + start * width;
    T* dx = out<T>(dx_) + start * d;
    Scratch<T> d_activated(n, std::max(h, d), x_);
    Scratch<T> du(n, std::max(kept.inner.size(1), width), x_);
    if (layers.activate_output) {
        kernels<T>().silu_backward(in<T>(kept.output) + start * width, dy, n * width, du);
        steps.second(du, n, d_activated);
    } else {
        steps.second(dy, n, d_activated);
    }
    const T* u = in<T>(kept.inner) + start * kept.inner.size(1);
    if (layers.gated) {
        kernels<T>().swiglu_backward(u, d_activated, n, h, du);
    } else {
        kernels<T>().silu_backward(u, d_activated, n * h, du);
    }
    if (layers.residual) {
        std::copy_n(dy, n * d, dx);
    } else {
        std::fill_n(dx, n * d, T(0));
    }
    if (layers.norm == NormKind::none) {
        steps.first.add(du, n, dx);
        return;
    }
    T* d_normed = d_activated;
    steps.first(du, n, d_normed);
    const T* statistics = in<T>(kept.statistics) + start * statistics_width(layers.norm);
    steps.norm.backward(in<T>(x_) + start * d, statistics, d_normed, n, dx);
}

Tensor forward_rows(const Layers& layers, const Tensor& x, Kept& kept) {
    layers.check(x);
    const int64_t n = x.size(0);
    kept.statistics = torch::empty({n, statistics_width(layers.norm)}, x.options());
    kept.inner = torch::empty({n, layers.w_in.size(0)}, x.options());
    Tensor y = torch::empty({n, layers.w_out.size(0)}, x.options());
    kept.output = layers.activate_output ? torch::empty_like(y) : torch::empty({0}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp", [&] {
        const Steps<scalar_t> steps(layers, x.size(1), Direction::forward);
        for_blocks(n, [&](int64_t first, int64_t size) {
            forward_block(layers, steps, x, first, size, kept, y);
        });
    });
    return y;
}

Tensor backward_rows(const Layers& layers, const Tensor& x, const Kept& kept, const Tensor& dy) {
    Tensor dx = torch::empty_like(x);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp backward", [&] {
        const Steps<scalar_t> steps(layers, x.size(1), Direction::backward);
        for_blocks(x.size(0), [&](int64_t first, int64_t size) {
            backward_block(layers, steps, x, kept, dy, first, size, dx);
        });
    });
    return dx;
}

struct Mlp : torch::autograd::Function<Mlp> {
    static Tensor forward(AutogradContext* context, const Tensor& x_, const Layers& layers) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor x = x_.detach().contiguous();
        Kept kept;
        Tensor y = forward_rows(layers, x, kept);
        context->save_for_backward(
            {x, kept.statistics, kept.inner, kept.output, layers.gain, layers.bias, layers.w_in,
             layers.b_in, layers.w_out, layers.b_out}
        );
        context->saved_data["norm"] = static_cast<int64_t>(layers.norm);
        context->saved_data["epsilon"] = layers.epsilon;
        context->saved_data["gated"] = layers.gated;
        context->saved_data["residual"] = layers.residual;
        context->saved_data["activate_output"] = layers.activate_output;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const auto flag = [&](const char* name) { return context->saved_data[name].toBool(); };
        const Layers layers{
            static_cast<NormKind>(context->saved_data["norm"].toInt()),
            s[4],
            s[5],
            context->saved_data["epsilon"].toDouble(),
            s[6],
            s[7],
            s[8],
            s[9],
            flag("gated"),
            flag("residual"),
            flag("activate_output"),
        };
        const Tensor dy = gradients[0].contiguous();
        return {backward_rows(layers, s[0], {s[1], s[2], s[3]}, dy), Tensor()};
    }
};

/// The norm and one product: queries, keys and values of the attention.
struct NormLinear : torch::autograd::Function<NormLinear> {
    static Tensor forward(
        AutogradContext* context, const Tensor& x_, NormKind kind, const Tensor& gain,
        const Tensor& bias, double epsilon, const Tensor& w, const Tensor& b
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        check_frozen({gain, bias, w, b});
        PETMAD_CHECK(
            x_.dim() == 2 && x_.size(1) == w.size(1) && b.numel() == w.size(0),
            "norm_linear: rows ", x_.sizes(), " do not fit weights ", w.sizes(), " and biases ",
            b.sizes(), "; pass the layer's own weights"
        );
        const Tensor x = x_.detach().contiguous();
        const int64_t d = x.size(1);
        Tensor statistics = torch::empty({x.size(0), statistics_width(kind)}, x.options());
        Tensor y = torch::empty({x.size(0), w.size(0)}, x.options());
        AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm_linear", [&] {
            const Norm<scalar_t> norm(kind, gain, bias, epsilon, d);
            const Factor<scalar_t> factor(w, Direction::forward, b);
            for_blocks(x.size(0), [&](int64_t first, int64_t n) {
                Scratch<scalar_t> room(n, d, x);
                const scalar_t* normed = norm.of(
                    in<scalar_t>(x) + first * d, n, room,
                    out<scalar_t>(statistics) + first * statistics_width(kind)
                );
                factor(normed, n, out<scalar_t>(y) + first * w.size(0));
            });
        });
        context->save_for_backward({x, statistics, gain, bias, w});
        context->saved_data["norm"] = static_cast<int64_t>(kind);
        context->saved_data["epsilon"] = epsilon;
        return y;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        const Tensor &x = s[0], &statistics = s[1], &w = s[4];
        const auto kind = static_cast<NormKind>(context->saved_data["norm"].toInt());
        const double epsilon = context->saved_data["epsilon"].toDouble();
        const int64_t d = x.size(1);
        const Tensor dy = gradients[0].contiguous();
        Tensor dx = torch::empty_like(x);
        AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm_linear backward", [&] {
            const Norm<scalar_t> norm(kind, s[2], s[3], epsilon, d);
            const Factor<scalar_t> factor(w, Direction::backward);
            for_blocks(x.size(0), [&](int64_t first, int64_t n) {
                const scalar_t* dy_rows = in<scalar_t>(dy) + first * w.size(0);
                scalar_t* dx_rows = out<scalar_t>(dx) + first * d;
                if (kind == NormKind::none) {
                    return factor(dy_rows, n, dx_rows);
                }
                Scratch<scalar_t> d_normed(n, d, x);
                factor(dy_rows, n, d_normed);
                std::fill_n(dx_rows, n * d, scalar_t(0));
                norm.backward(
                    in<scalar_t>(x) + first * d,
                    in<scalar_t>(statistics) + first * statistics_width(kind), d_normed, n, dx_rows
                );
            });
        });
        return {dx, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
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
        x, Layers{
               norm_kind(norm), gain, bias, epsilon, w_in, b_in, w_out, b_out,
               activation == "SwiGLU", residual, activate_output
           }
    );
}

Tensor norm_linear(
    const Tensor& x, const std::string& norm, const Tensor& gain, const Tensor& bias,
    double epsilon, const Tensor& w, const Tensor& b
) {
    return NormLinear::apply(x, norm_kind(norm), gain, bias, epsilon, w, b);
}

} // namespace petmad::cpu

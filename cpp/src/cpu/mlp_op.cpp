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

template <typename T>
void forward_block(
    const Layers& layers, const Tensor& x, int64_t first, int64_t n, Kept& kept, Tensor& y
) {
    const int64_t d = x.size(1);
    const int64_t h = layers.inner();
    const Norm<T> norm(layers.norm, layers.gain, layers.bias, layers.epsilon, d);
    const Tensor block = x.narrow(0, first, n);
    Tensor normed = block;
    if (layers.norm != NormKind::none) {
        normed = torch::empty({n, d}, x.options());
        norm.forward(
            in<T>(block), n, out<T>(normed),
            out<T>(kept.statistics) + first * statistics_width(layers.norm)
        );
    }
    Tensor u = kept.inner.narrow(0, first, n);
    multiply(u, normed, layers.w_in.t());
    kernels<T>().add_bias(in<T>(layers.b_in), n, u.size(1), out<T>(u));
    Tensor activated = torch::empty({n, h}, x.options());
    if (layers.gated) {
        kernels<T>().swiglu(in<T>(u), n, h, out<T>(activated));
    } else {
        kernels<T>().silu(in<T>(u), n * h, out<T>(activated));
    }
    Tensor result = y.narrow(0, first, n);
    Tensor product = layers.activate_output ? kept.output.narrow(0, first, n) : result;
    multiply(product, activated, layers.w_out.t());
    const int64_t width = y.size(1);
    kernels<T>().add_bias(in<T>(layers.b_out), n, width, out<T>(product));
    if (layers.activate_output) {
        kernels<T>().silu(in<T>(product), n * width, out<T>(result));
    }
    if (layers.residual) {
        result.add_(block);
    }
}

template <typename T>
void backward_block(
    const Layers& layers, const Tensor& x, const Kept& kept, const Tensor& dy, int64_t first,
    int64_t n, Tensor& dx
) {
    const int64_t d = x.size(1);
    const int64_t h = layers.inner();
    Tensor d_product = dy.narrow(0, first, n);
    if (layers.activate_output) {
        const Tensor before = kept.output.narrow(0, first, n);
        Tensor through = torch::empty_like(before);
        kernels<T>().silu_backward(
            in<T>(before), in<T>(d_product), before.numel(), out<T>(through)
        );
        d_product = through;
    }
    Tensor d_activated = torch::empty({n, h}, x.options());
    multiply(d_activated, d_product, layers.w_out);
    const Tensor u = kept.inner.narrow(0, first, n);
    Tensor du = torch::empty_like(u);
    if (layers.gated) {
        kernels<T>().swiglu_backward(in<T>(u), in<T>(d_activated), n, h, out<T>(du));
    } else {
        kernels<T>().silu_backward(in<T>(u), in<T>(d_activated), n * h, out<T>(du));
    }
    Tensor result = dx.narrow(0, first, n);
    if (layers.norm == NormKind::none && !layers.residual) {
        multiply(result, du, layers.w_in);
        return;
    }
    Tensor d_normed = torch::empty({n, d}, x.options());
    multiply(d_normed, du, layers.w_in);
    if (layers.residual) {
        result.copy_(dy.narrow(0, first, n));
    } else {
        result.zero_();
    }
    const Norm<T> norm(layers.norm, layers.gain, layers.bias, layers.epsilon, d);
    norm.backward(
        in<T>(x) + first * d, in<T>(kept.statistics) + first * statistics_width(layers.norm),
        in<T>(d_normed), n, out<T>(result)
    );
}

Tensor forward_rows(const Layers& layers, const Tensor& x, Kept& kept) {
    layers.check(x);
    const int64_t n = x.size(0);
    kept.statistics = torch::empty({n, statistics_width(layers.norm)}, x.options());
    kept.inner = torch::empty({n, layers.w_in.size(0)}, x.options());
    Tensor y = torch::empty({n, layers.w_out.size(0)}, x.options());
    kept.output = layers.activate_output ? torch::empty_like(y) : torch::empty({0}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp", [&] {
        for_blocks(n, [&](int64_t first, int64_t size) {
            forward_block<scalar_t>(layers, x, first, size, kept, y);
        });
    });
    return y;
}

Tensor backward_rows(const Layers& layers, const Tensor& x, const Kept& kept, const Tensor& dy) {
    Tensor dx = torch::empty_like(x);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp backward", [&] {
        for_blocks(x.size(0), [&](int64_t first, int64_t size) {
            backward_block<scalar_t>(layers, x, kept, dy, first, size, dx);
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
            for_blocks(x.size(0), [&](int64_t first, int64_t n) {
                Tensor normed = torch::empty({n, d}, x.options());
                norm.forward(
                    in<scalar_t>(x) + first * d, n, out<scalar_t>(normed),
                    out<scalar_t>(statistics) + first * statistics_width(kind)
                );
                Tensor block = y.narrow(0, first, n);
                multiply(block, normed, w.t());
                kernels<scalar_t>().add_bias(in<scalar_t>(b), n, w.size(0), out<scalar_t>(block));
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
            for_blocks(x.size(0), [&](int64_t first, int64_t n) {
                Tensor d_normed = torch::empty({n, d}, x.options());
                multiply(d_normed, dy.narrow(0, first, n), w);
                Tensor block = dx.narrow(0, first, n).zero_();
                norm.backward(
                    in<scalar_t>(x) + first * d,
                    in<scalar_t>(statistics) + first * statistics_width(kind),
                    in<scalar_t>(d_normed), n, out<scalar_t>(block)
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

// Block by block: the rows of a block pass all steps while they are in the second-level cache.
#include "mlp_rows.h"

namespace petmad::cpu {
namespace {

template <typename T> Norm<T> norm_of(const NormWeights& norm, int64_t width) {
    return Norm<T>(norm.kind, norm.gain, norm.bias, norm.epsilon, width);
}

template <typename T> Factor<T> forward_of(const LinearWeights& linear) {
    return Factor<T>(linear.w, Direction::forward, linear.b);
}

template <typename T> Factor<T> backward_of(const LinearWeights& linear) {
    return Factor<T>(linear.w, Direction::backward);
}

template <typename T> const T* rows_of(const Tensor& tensor, int64_t first) {
    return in<T>(tensor) + first * tensor.size(1);
}

template <typename T> T* rows_in(Tensor& tensor, int64_t first) {
    return out<T>(tensor) + first * tensor.size(1);
}

template <typename T>
void activate(const MlpWeights& weights, const T* u, int64_t n, T* activated) {
    if (weights.gated) {
        kernels<T>().swiglu(u, n, weights.inner(), activated);
    } else {
        kernels<T>().silu(u, n * weights.inner(), activated);
    }
}

template <typename T>
void forward_rows(const MlpWeights& weights, const Tensor& x_, MlpKept& kept, Tensor& y_) {
    const int64_t d = x_.size(1);
    const int64_t width = weights.second.w.size(0);
    const Norm<T> norm = norm_of<T>(weights.norm, d);
    const Factor<T> first = forward_of<T>(weights.first);
    const Factor<T> second = forward_of<T>(weights.second);
    for_blocks(x_.size(0), [&](int64_t start, int64_t n) {
        const T* x = rows_of<T>(x_, start);
        Scratch<T> room(n, std::max(d, weights.inner()), x_);
        KeptRows<T> u(kept.inner, start, n, weights.first.w.size(0), x_);
        KeptRows<T> statistics(kept.statistics, start, n, statistics_width(weights.norm.kind), x_);
        first(norm.of(x, n, room, statistics), n, u);
        if (!y_.defined() && !weights.activate_output) {
            return;
        }
        activate<T>(weights, u, n, room);
        T* y = y_.defined() ? rows_in<T>(y_, start) : nullptr;
        if (weights.activate_output) {
            KeptRows<T> before(kept.output, start, n, width, x_);
            second(room, n, before);
            if (y != nullptr) {
                kernels<T>().silu(before, n * width, y);
            }
        } else {
            second(room, n, y);
        }
        if (weights.residual && y != nullptr) {
            kernels<T>().add(x, n * width, y);
        }
    });
}

template <typename T>
void backward_rows(
    const MlpWeights& weights, const Tensor& x_, const MlpKept& kept, const Tensor& dy_, Tensor& dx_
) {
    const int64_t d = x_.size(1);
    const int64_t h = weights.inner();
    const int64_t wide = weights.first.w.size(0);
    const int64_t width = dy_.size(1);
    const bool runs_again = !kept.inner.defined();
    const Norm<T> norm = norm_of<T>(weights.norm, d);
    const Factor<T> first = backward_of<T>(weights.first);
    const Factor<T> second = backward_of<T>(weights.second);
    const Factor<T> first_again = forward_of<T>(weights.first);
    const Factor<T> second_again = forward_of<T>(weights.second);
    for_blocks(x_.size(0), [&](int64_t start, int64_t n) {
        const T* x = rows_of<T>(x_, start);
        const T* dy = rows_of<T>(dy_, start);
        T* dx = rows_in<T>(dx_, start);
        KeptRows<T> statistics(kept.statistics, start, n, statistics_width(weights.norm.kind), x_);
        Scratch<T> d_activated(n, std::max(h, d), x_);
        Scratch<T> du(n, std::max(wide, width), x_);
        KeptRows<T> u(kept.inner, start, n, wide, x_);
        if (runs_again) {
            first_again(norm.of(x, n, d_activated, statistics), n, u);
        }
        if (weights.activate_output) {
            KeptRows<T> before(kept.output, start, n, width, x_);
            if (runs_again) {
                activate<T>(weights, u, n, d_activated);
                second_again(d_activated, n, before);
            }
            kernels<T>().silu_backward(before, dy, n * width, du);
            second(du, n, d_activated);
        } else {
            second(dy, n, d_activated);
        }
        if (weights.gated) {
            kernels<T>().swiglu_backward(u, d_activated, n, h, du);
        } else {
            kernels<T>().silu_backward(u, d_activated, n * h, du);
        }
        if (weights.residual) {
            std::copy_n(dy, n * d, dx);
        } else {
            std::fill_n(dx, n * d, T(0));
        }
        if (weights.norm.kind == NormKind::none) {
            return first.add(du, n, dx);
        }
        T* d_normed = d_activated;
        first(du, n, d_normed);
        norm.backward(x, statistics, d_normed, n, dx);
    });
}

} // namespace

void LinearWeights::check(const Tensor& x, const char* name) const {
    check_frozen({w, b});
    PETMAD_CHECK(
        x.dim() == 2 && x.size(1) == w.size(1) && b.numel() == w.size(0), name, ": rows ",
        x.sizes(), " do not fit weights ", w.sizes(), " and biases ", b.sizes(),
        "; pass the layer's own weights"
    );
}

void MlpWeights::check(const Tensor& x) const {
    check_frozen({norm.gain, norm.bias, first.w, first.b, second.w, second.b});
    PETMAD_CHECK(
        x.dim() == 2 && x.size(1) == first.w.size(1) && first.w.size(0) == (gated ? 2 : 1) * inner()
            && (!residual || second.w.size(0) == x.size(1)) && first.b.numel() == first.w.size(0)
            && second.b.numel() == second.w.size(0),
        "mlp: rows ", x.sizes(), " do not fit weights ", first.w.sizes(), " and ", second.w.sizes(),
        "; pass the layer's own weights"
    );
}

void mlp_forward(
    const MlpWeights& weights, const Tensor& x, bool keeps_wide, MlpKept& kept, Tensor y
) {
    const int64_t n = x.size(0);
    if (keeps_wide) {
        kept.statistics = empty_statistics(weights.norm, x);
        kept.inner = torch::empty({n, weights.first.w.size(0)}, x.options());
    }
    if (keeps_wide && weights.activate_output) {
        kept.output = torch::empty({n, weights.second.w.size(0)}, x.options());
    }
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp", [&] {
        forward_rows<scalar_t>(weights, x, kept, y);
    });
}

void mlp_backward(
    const MlpWeights& weights, const Tensor& x, const MlpKept& kept, const Tensor& dy, Tensor dx
) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::mlp backward", [&] {
        backward_rows<scalar_t>(weights, x, kept, dy, dx);
    });
}

void norm_linear_forward(
    const NormWeights& norm, const LinearWeights& linear, const Tensor& x, Tensor statistics,
    Tensor y
) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm_linear", [&] {
        const Norm<scalar_t> of = norm_of<scalar_t>(norm, x.size(1));
        const Factor<scalar_t> factor = forward_of<scalar_t>(linear);
        for_blocks(x.size(0), [&](int64_t first, int64_t n) {
            Scratch<scalar_t> room(n, x.size(1), x);
            scalar_t* kept = rows_in<scalar_t>(statistics, first);
            factor(
                of.of(rows_of<scalar_t>(x, first), n, room, kept), n, rows_in<scalar_t>(y, first)
            );
        });
    });
}

void norm_linear_backward(
    const NormWeights& norm, const LinearWeights& linear, const Tensor& x, const Tensor& statistics,
    const Tensor& dy, Tensor dx
) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm_linear backward", [&] {
        const Norm<scalar_t> of = norm_of<scalar_t>(norm, x.size(1));
        const Factor<scalar_t> factor = backward_of<scalar_t>(linear);
        for_blocks(x.size(0), [&](int64_t first, int64_t n) {
            const scalar_t* dy_rows = rows_of<scalar_t>(dy, first);
            scalar_t* dx_rows = rows_in<scalar_t>(dx, first);
            if (norm.kind == NormKind::none) {
                return factor.add(dy_rows, n, dx_rows);
            }
            Scratch<scalar_t> d_normed(n, x.size(1), x);
            factor(dy_rows, n, d_normed);
            of.backward(
                rows_of<scalar_t>(x, first), rows_of<scalar_t>(statistics, first), d_normed, n,
                dx_rows
            );
        });
    });
}

void linear_forward(const LinearWeights& linear, const Tensor& x, const Tensor& base, Tensor y) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::linear", [&] {
        const Factor<scalar_t> factor = forward_of<scalar_t>(linear);
        for_blocks(x.size(0), [&](int64_t first, int64_t n) {
            scalar_t* to = rows_in<scalar_t>(y, first);
            factor(rows_of<scalar_t>(x, first), n, to);
            if (base.defined()) {
                kernels<scalar_t>().add(rows_of<scalar_t>(base, first), n * y.size(1), to);
            }
        });
    });
}

void linear_backward(const LinearWeights& linear, const Tensor& dy, const Tensor& base, Tensor dx) {
    AT_DISPATCH_FLOATING_TYPES(dy.scalar_type(), "petmad::linear backward", [&] {
        const Factor<scalar_t> factor = backward_of<scalar_t>(linear);
        for_blocks(dy.size(0), [&](int64_t first, int64_t n) {
            scalar_t* to = rows_in<scalar_t>(dx, first);
            factor(rows_of<scalar_t>(dy, first), n, to);
            if (base.defined()) {
                kernels<scalar_t>().add(rows_of<scalar_t>(base, first), n * dx.size(1), to);
            }
        });
    });
}

void norm_forward(const NormWeights& norm, const Tensor& x, Tensor statistics, Tensor y) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm", [&] {
        const Norm<scalar_t> of = norm_of<scalar_t>(norm, x.size(1));
        for_blocks(x.size(0), [&](int64_t first, int64_t n) {
            of.forward(
                rows_of<scalar_t>(x, first), n, rows_in<scalar_t>(y, first),
                rows_in<scalar_t>(statistics, first)
            );
        });
    });
}

void norm_backward(
    const NormWeights& norm, const Tensor& x, const Tensor& statistics, const Tensor& dy, Tensor dx
) {
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm backward", [&] {
        const Norm<scalar_t> of = norm_of<scalar_t>(norm, x.size(1));
        for_blocks(x.size(0), [&](int64_t first, int64_t n) {
            scalar_t* to = rows_in<scalar_t>(dx, first);
            std::fill_n(to, n * x.size(1), scalar_t(0));
            of.backward(
                rows_of<scalar_t>(x, first), rows_of<scalar_t>(statistics, first),
                rows_of<scalar_t>(dy, first), n, to
            );
        });
    });
}

} // namespace petmad::cpu

#include "row_steps.h"

namespace petmad::cuda {
namespace {

template <typename T> const T* in_if_defined(const Tensor& tensor) {
    return tensor.defined() ? in<T>(tensor) : nullptr;
}

} // namespace

void Norm::check(int64_t width) const {
    PETMAD_CHECK(
        kind == cpu::NormKind::none || gain.numel() == width, "`gain` has ", gain.numel(),
        " numbers for rows of ", width, "; pass one per column"
    );
}

Tensor Norm::forward(const Tensor& x, Tensor& statistics) const {
    statistics = torch::empty({x.size(0), cpu::statistics_width(kind)}, x.options());
    if (kind == cpu::NormKind::none) {
        return x;
    }
    const Where where = where_of(x);
    const Tensor y = torch::empty_like(x);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm", [&] {
        network_of<scalar_t>(where).norm(
            where, kind == cpu::NormKind::layer, in<scalar_t>(x), in<scalar_t>(gain),
            in_or_null<scalar_t>(bias), static_cast<scalar_t>(epsilon), x.size(0), x.size(1),
            out<scalar_t>(y), out<scalar_t>(statistics)
        );
    });
    return y;
}

Tensor Norm::backward(
    const Tensor& x, const Tensor& statistics, const Tensor& dy, const Tensor& direct
) const {
    if (kind == cpu::NormKind::none) {
        return direct.defined() ? dy + direct : dy;
    }
    const Where where = where_of(x);
    const Tensor dx = torch::empty_like(x);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "petmad::norm backward", [&] {
        network_of<scalar_t>(where).norm_backward(
            where, kind == cpu::NormKind::layer, in<scalar_t>(x), in<scalar_t>(gain),
            in<scalar_t>(statistics), in<scalar_t>(dy), in_if_defined<scalar_t>(direct), x.size(0),
            x.size(1), out<scalar_t>(dx)
        );
    });
    return dx;
}

Tensor Norm::forward(const Tensor& left, const Tensor& right, Tensor& statistics) const {
    const int64_t n = left.size(0);
    const int64_t d = left.size(1);
    const Where where = where_of(left);
    const Tensor y = torch::empty({n, 2 * d}, left.options());
    statistics = torch::empty({n, cpu::statistics_width(kind)}, left.options());
    AT_DISPATCH_FLOATING_TYPES(left.scalar_type(), "petmad::paired_norm", [&] {
        network_of<scalar_t>(where).paired_norm(
            where, kind == cpu::NormKind::layer, in<scalar_t>(left), in<scalar_t>(right),
            in<scalar_t>(gain), in_or_null<scalar_t>(bias), static_cast<scalar_t>(epsilon), n, d,
            out<scalar_t>(y), out<scalar_t>(statistics)
        );
    });
    return y;
}

std::pair<Tensor, Tensor> Norm::backward(
    const Tensor& left, const Tensor& right, const Tensor& statistics, const Tensor& dy,
    const Tensor& direct
) const {
    const Where where = where_of(left);
    const Tensor d_left = torch::empty_like(left);
    const Tensor d_right = torch::empty_like(right);
    AT_DISPATCH_FLOATING_TYPES(left.scalar_type(), "petmad::paired_norm backward", [&] {
        network_of<scalar_t>(where).paired_norm_backward(
            where, kind == cpu::NormKind::layer, in<scalar_t>(left), in<scalar_t>(right),
            in<scalar_t>(gain), in<scalar_t>(statistics), in<scalar_t>(dy), in<scalar_t>(direct),
            left.size(0), left.size(1), out<scalar_t>(d_left), out<scalar_t>(d_right)
        );
    });
    return {d_left, d_right};
}

Tensor activate(const Tensor& u, const Tensor& bias, bool gated) {
    const Where where = where_of(u);
    const Tensor y = torch::empty({u.size(0), u.size(1) / (gated ? 2 : 1)}, u.options());
    AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "petmad::activate", [&] {
        network_of<scalar_t>(where).activate(
            where, gated, in<scalar_t>(u), in<scalar_t>(bias), y.size(0), y.size(1),
            out<scalar_t>(y)
        );
    });
    return y;
}

Tensor activate_backward(const Tensor& u, const Tensor& bias, const Tensor& dy, bool gated) {
    const Where where = where_of(u);
    const Tensor du = torch::empty_like(u);
    AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "petmad::activate backward", [&] {
        network_of<scalar_t>(where).activate_backward(
            where, gated, in<scalar_t>(u), in<scalar_t>(bias), in<scalar_t>(dy), dy.size(0),
            dy.size(1), out<scalar_t>(du)
        );
    });
    return du;
}

void add_bias(const Tensor& product, const Tensor& bias, const Tensor& direct, const Tensor& base) {
    const Where where = where_of(product);
    AT_DISPATCH_FLOATING_TYPES(product.scalar_type(), "petmad::add_bias", [&] {
        network_of<scalar_t>(where).add_bias(
            where, in<scalar_t>(product), in<scalar_t>(bias), in<scalar_t>(direct),
            in_if_defined<scalar_t>(base), product.size(0), product.size(1), out<scalar_t>(product)
        );
    });
}

} // namespace petmad::cuda

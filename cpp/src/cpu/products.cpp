// A rule, not a measurement, chooses: runs on one machine give the same bits.
#include "products.h"

#include <atomic>
#include <optional>
#include <type_traits>

#include <ATen/core/dispatch/Dispatcher.h>

#include "../precision.h"
#include "packed_weights.h"
#include "petmad/error.h"

namespace petmad::cpu {
namespace {

using torch::Tensor;
using LinearSchema = Tensor(
    const Tensor&, const Tensor&, const std::optional<Tensor>&, c10::string_view,
    c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>
);

/// oneDNN's linear layer as torch calls it in compiled graphs; empty where torch lacks it.
const std::optional<c10::TypedOperatorHandle<LinearSchema>>& onednn_linear() {
    static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<LinearSchema>> {
        const auto found =
            c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
        if (!found) {
            return std::nullopt;
        }
        return found->typed<LinearSchema>();
    }();
    return handle;
}

enum class Library { petmad, onednn, blas };

/// Where there are kernels for wide vectors, ours reach the rate of oneDNN (110 to 114 GFLOP/s of
/// 112 on 96 rows, AMD Zen 4) without its copies and calls; elsewhere the BLAS knows better.
Library preferred() {
    return instruction_sets().front() == "baseline" ? Library::blas : Library::petmad;
}

std::atomic<Library>& library() {
    static std::atomic<Library> choice{preferred()};
    return choice;
}

/// Rows as a tensor of what somebody else owns.
template <typename T> Tensor rows(const T* data, int64_t n, int64_t width, int64_t stride) {
    const auto options = torch::dtype(c10::CppTypeToScalarType<T>::value);
    return torch::from_blob(const_cast<T*>(data), {n, width}, {stride, 1}, options);
}

Tensor multiplied(const Tensor& x, const Tensor& weight, Direction direction) {
    const bool is_forward = direction == Direction::forward;
    if (library() == Library::onednn && x.scalar_type() == torch::kFloat32) {
        const c10::List<std::optional<at::Scalar>> none;
        const Tensor dense = is_forward ? weight : weight.t().contiguous();
        return onednn_linear()->call(
            x.contiguous(), dense, std::nullopt, "none", none, std::nullopt
        );
    }
    return at::mm(x, is_forward ? weight.t() : weight);
}

} // namespace

template <typename T>
Factor<T>::Factor(const Tensor& weight, Direction direction, const Tensor& bias)
    : weight_(weight), direction_(direction) {
    const bool is_forward = direction == Direction::forward;
    product_.k = weight.size(is_forward ? 1 : 0);
    product_.m = weight.size(is_forward ? 0 : 1);
    product_.a_stride = product_.k;
    product_.c_stride = product_.m;
    if (bias.defined() && bias.numel() > 0) {
        PETMAD_CHECK(
            is_forward && bias.numel() == product_.m && bias.is_contiguous(), "a bias of ",
            bias.sizes(), " does not fit a weight of ", weight.sizes(),
            "; pass one dense number per column"
        );
        product_.bias = bias.const_data_ptr<T>();
    }
    if (std::is_same_v<T, float> && product_precision() == Precision::bf16) {
        narrow_ = bf16_product();
        PETMAD_CHECK(
            narrow_ != nullptr, "`precision` is bf16, but the kernels in use are ",
            instruction_set(), "; choose avx512 again, or fp32"
        );
        PETMAD_CHECK(
            library() == Library::petmad,
            "`precision` is bf16, which is petmad's own, but products "
            "are left to ",
            product_library(), "; choose the product library petmad, or fp32"
        );
        panels_ = packed(weight, direction, true);
        return;
    }
    if (library() == Library::petmad) {
        panels_ = packed(weight, direction);
        product_.panels = panels_.const_data_ptr<T>();
    }
}

template <typename T>
void Factor<T>::run(const T* x, int64_t n, T* y, const Product<T>& product) const {
    if (product.panels != nullptr) {
        return kernels<T>().multiply(product, x, n, y);
    }
    if constexpr (std::is_same_v<T, float>) {
        if (narrow_ != nullptr) {
            const auto* panels = static_cast<const uint16_t*>(panels_.const_data_ptr());
            return narrow_(product, panels, x, n, y);
        }
    }
    Tensor result = rows(y, n, product.m, product.c_stride);
    const Tensor found = multiplied(rows(x, n, product.k, product.a_stride), weight_, direction_);
    if (product.add) {
        result.add_(found);
    } else if (product.bias) {
        at::add_out(result, found, rows(product.bias, 1, product.m, product.m));
    } else {
        result.copy_(found);
    }
}

template class Factor<float>;
template class Factor<double>;

std::string product_library() {
    const Library choice = library();
    return choice == Library::petmad ? "petmad" : choice == Library::onednn ? "onednn" : "blas";
}

void choose_product_library(const std::string& name) {
    const bool has_onednn = onednn_linear().has_value();
    PETMAD_CHECK(
        name == "petmad" || name == "blas" || (name == "onednn" && has_onednn), "product library '",
        name, "' is not available here", "; choose petmad",
        has_onednn ? ", blas or onednn" : " or blas"
    );
    library() = name == "petmad"   ? Library::petmad
                : name == "onednn" ? Library::onednn
                                   : Library::blas;
}

} // namespace petmad::cpu

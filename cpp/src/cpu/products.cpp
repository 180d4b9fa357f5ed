// A rule, not a measurement, chooses: runs on one machine give the same bits.
#include "products.h"

#include <atomic>
#include <optional>

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/torch.h>

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

/// MKL takes slower paths on processors that are not Intel's; oneDNN does not.
bool prefers_onednn() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return !__builtin_cpu_is("intel") && __builtin_cpu_supports("avx2")
           && onednn_linear().has_value();
#else
    return false;
#endif
}

std::atomic<bool>& uses_onednn() {
    static std::atomic<bool> choice{prefers_onednn()};
    return choice;
}

} // namespace

void multiply(const Tensor& destination, const Tensor& source, const Tensor& matrix) {
    Tensor result = destination;
    if (source.scalar_type() == torch::kFloat32 && uses_onednn() && source.size(0) > 0) {
        const c10::List<std::optional<at::Scalar>> no_scalars;
        result.copy_(
            onednn_linear()->call(
                source, matrix.t(), std::nullopt, "none", no_scalars, std::nullopt
            )
        );
    } else {
        at::mm_out(result, source, matrix);
    }
}

std::string product_library() { return uses_onednn() ? "onednn" : "blas"; }

void choose_product_library(const std::string& name) {
    PETMAD_CHECK(
        name == "blas" || (name == "onednn" && onednn_linear().has_value()), "product library '",
        name, "' is not available here", "; choose blas",
        onednn_linear().has_value() ? " or onednn" : ""
    );
    uses_onednn() = name == "onednn";
}

} // namespace petmad::cpu

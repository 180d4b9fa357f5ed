#include "tensors.h"

#include <atomic>
#include <dlfcn.h>
#include <limits>

#include "../precision.h"

namespace petmad::cuda {
namespace {

std::atomic<bool>& runs_backwards() {
    static std::atomic<bool> choice{false};
    return choice;
}

/// From the C interface that torch keeps stable across versions; there is none in its CPU builds.
using GetCurrentStream = int32_t (*)(int32_t device, void** stream);

GetCurrentStream find_stream_getter() {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
    return reinterpret_cast<GetCurrentStream>(symbol);
}

void* current_stream(int device) {
    static const GetCurrentStream getter = find_stream_getter();
    void* stream = nullptr;
    PETMAD_CHECK(
        getter != nullptr && getter(device, &stream) == 0,
        "this torch does not tell its current CUDA stream; install a CUDA build of torch 2.11 to "
        "2.13"
    );
    return stream;
}

/// The nearest numbers with 10 bits of mantissa, as tensor cores round their input.
Tensor as_tf32(const Tensor& x) {
    const Tensor bits = x.contiguous().view(torch::kInt32);
    const Tensor odd = bits.bitwise_right_shift(13).bitwise_and(1);
    return (bits + 0xfff + odd).bitwise_and(~0x1fff).view(torch::kFloat32);
}

/// A power of two that brings the largest number to between 2^9 and 2^11, far from both ends of
/// float16; stays on the device.
Tensor scale_of(const Tensor& x) {
    constexpr double order = std::numeric_limits<double>::infinity(); // of the norm: the largest
    const Tensor largest = at::linalg_vector_norm(x, order).clamp_min(1e-30);
    return torch::exp2(10.0 - torch::floor(torch::log2(largest)));
}

/// In one pass, without a scaled copy in float32.
Tensor as_half(const Tensor& x, const Tensor& scale) {
    Tensor half = torch::empty(x.sizes(), x.options().dtype(torch::kFloat16));
    return at::mul_out(half, x, scale);
}

Tensor half_product(const Tensor& x, const Tensor& matrix) {
    const Tensor of_x = scale_of(x);
    const Tensor of_matrix = scale_of(matrix);
    const Tensor a = as_half(x, of_x);
    const Tensor b = as_half(matrix, of_matrix);
    Tensor result = x.is_cpu() ? at::mm(a.to(torch::kFloat32), b.to(torch::kFloat32))
                               : at::mm(a, b, torch::kFloat32);
    return result.div_(of_x * of_matrix);
}

} // namespace

void set_emulation_backwards(bool backwards) { runs_backwards() = backwards; }

Where where_of(const Tensor& tensor) {
    Where where;
    where.backwards = runs_backwards();
    if (tensor.is_cpu()) {
        return where;
    }
    PETMAD_CHECK(
        tensor.is_cuda(), "petmad's kernels run on CUDA devices, found a tensor on ",
        tensor.device(), "; move it with .cuda()"
    );
    where.on_gpu = true;
    where.device = tensor.get_device();
    where.stream = current_stream(where.device);
    return where;
}

Tensor product(const Tensor& x, const Tensor& matrix) {
    if (x.scalar_type() == torch::kFloat32 && x.numel() > 0 && matrix.numel() > 0) {
        if (product_precision() == Precision::fp16) {
            return half_product(x, matrix);
        }
        if (product_precision() == Precision::tf32 && x.is_cpu()) {
            return at::mm(as_tf32(x), as_tf32(matrix));
        }
    }
    return at::mm(x, matrix);
}

Tensor product_plus(const Tensor& x, const Tensor& matrix, const Tensor& bias) {
    const bool is_plain = x.scalar_type() != torch::kFloat32
                          || product_precision() == Precision::file
                          || product_precision() == Precision::fp32
                          || (product_precision() == Precision::tf32 && !x.is_cpu());
    return is_plain ? at::addmm(bias, x, matrix) : product(x, matrix) + bias;
}

void check_alike(std::initializer_list<Tensor> tensors, const char* operation) {
    const Tensor& first = *tensors.begin();
    for (const Tensor& tensor : tensors) {
        PETMAD_CHECK(
            tensor.device() == first.device() && tensor.scalar_type() == first.scalar_type(),
            operation, ": tensors of ", first.scalar_type(), " on ", first.device(), " and of ",
            tensor.scalar_type(), " on ", tensor.device(),
            " do not go together; move and convert the whole model at once"
        );
    }
}

} // namespace petmad::cuda

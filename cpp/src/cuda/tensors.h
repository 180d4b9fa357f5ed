// Small tools of the operators on GPUs: where a tensor lives, typed pointers, matrix products.
// Uses torch's device-generic interface alone, so it compiles with CPU builds of torch too.
#pragma once

#include <c10/core/DeviceGuard.h>
#include <torch/types.h>

#include "kernels.h"
#include "petmad/error.h"

namespace petmad::cuda {

using torch::Tensor;

/// GPU, device and current stream of a tensor; the emulation for a tensor on the CPU.
/// Throws Error: another device, or no way to ask torch for its stream.
Where where_of(const Tensor& tensor);

/// Runs the emulation's lanes in reverse; for tests.
void set_emulation_backwards(bool backwards);

template <typename T> const T* in(const Tensor& tensor) { return tensor.const_data_ptr<T>(); }
template <typename T> T* out(const Tensor& tensor) { return tensor.mutable_data_ptr<T>(); }
/// Null for a tensor without elements.
template <typename T> const T* in_or_null(const Tensor& tensor) {
    return tensor.numel() > 0 ? in<T>(tensor) : nullptr;
}

inline Tensor dense(const Tensor& tensor) { return tensor.detach().contiguous(); }

inline Tensor dense(const Tensor& tensor, torch::ScalarType dtype) {
    return tensor.detach().to(dtype).contiguous();
}

template <typename T> const NetworkKernels<T>& network_of(const Where& where) {
    return network_kernels<T>(where.on_gpu);
}

/// x @ matrix in the precision of products; `matrix` may be a transposed view. float64 is exact in
/// every case. In fp16 both are scaled by powers of two to use the range of the format.
Tensor product(const Tensor& x, const Tensor& matrix);

/// The same with `bias` added to every row, by the matrix library where it can.
Tensor product_plus(const Tensor& x, const Tensor& matrix, const Tensor& bias);

/// Throws Error unless all of the tensors are on the device and of the data type of the first.
void check_alike(std::initializer_list<Tensor> tensors, const char* operation);

} // namespace petmad::cuda

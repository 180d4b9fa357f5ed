// Runs the kernels of warp.h: on a GPU where nvcc compiles this, in a loop elsewhere.
// Included by the *_kernels.inc files alone, once per compiler.
#pragma once

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "warp.h"
#include "where.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace petmad::cuda {
namespace {

#if defined(__CUDACC__)

constexpr int threads_per_block = 128;
constexpr int warps_per_block = threads_per_block / warp_size;
constexpr size_t shared_without_asking = 48 * 1024;

/// Of each call of the CUDA runtime: throws std::runtime_error, which names the call.
inline void check_cuda(cudaError_t status, const char* call) {
    if (status != cudaSuccess) {
        throw std::runtime_error(
            std::string("petmad: ") + call + " failed: " + cudaGetErrorString(status)
            + "; a kernel may lack code for this GPU, or an earlier kernel failed"
        );
    }
}

template <typename Function>
__global__ void
__launch_bounds__(threads_per_block) each_kernel(const Function function, const int64_t n) {
    const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index < n) {
        function(index);
    }
}

template <typename Function>
__global__ void __launch_bounds__(threads_per_block) warps_kernel(
    const Function function, const int64_t n, const size_t shared_per_warp
) {
    extern __shared__ __align__(16) char shared[];
    const int in_block = threadIdx.x / warp_size;
    const int64_t item = static_cast<int64_t>(blockIdx.x) * (blockDim.x / warp_size) + in_block;
    if (item < n) {
        Warp warp(threadIdx.x % warp_size, shared + in_block * shared_per_warp);
        function(warp, item);
    }
}

/// Calls function(index) for 0 <= index < n.
template <typename Function> void each(const Where& where, int64_t n, const Function& function) {
    if (n == 0) {
        return;
    }
    check_cuda(cudaSetDevice(where.device), "cudaSetDevice");
    const auto n_blocks = static_cast<unsigned>((n + threads_per_block - 1) / threads_per_block);
    each_kernel<<<n_blocks, threads_per_block, 0, static_cast<cudaStream_t>(where.stream)>>>(
        function, n
    );
    check_cuda(cudaGetLastError(), "a launch");
}

/// Calls function(warp, item) for 0 <= item < n; each warp has `shared_per_warp` bytes, a multiple
/// of 16. Blocks hold as many warps as fit the shared memory of one.
template <typename Function>
void warps(const Where& where, int64_t n, size_t shared_per_warp, const Function& function) {
    if (n == 0) {
        return;
    }
    check_cuda(cudaSetDevice(where.device), "cudaSetDevice");
    int per_block = warps_per_block;
    while (per_block > 1 && per_block * shared_per_warp > shared_without_asking) {
        per_block /= 2;
    }
    const size_t bytes = per_block * shared_per_warp;
    if (bytes > shared_without_asking) {
        check_cuda(
            cudaFuncSetAttribute(
                warps_kernel<Function>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                static_cast<int>(bytes)
            ),
            "cudaFuncSetAttribute"
        );
    }
    const auto n_blocks = static_cast<unsigned>((n + per_block - 1) / per_block);
    const auto stream = static_cast<cudaStream_t>(where.stream);
    warps_kernel<<<n_blocks, per_block * warp_size, bytes, stream>>>(function, n, shared_per_warp);
    check_cuda(cudaGetLastError(), "a launch");
}

#else

template <typename Function> void each(const Where& where, int64_t n, const Function& function) {
    for (int64_t k = 0; k < n; ++k) {
        function(where.backwards ? n - 1 - k : k);
    }
}

template <typename Function>
void warps(const Where& where, int64_t n, size_t shared_per_warp, const Function& function) {
    std::vector<Pack<char>> shared(shared_per_warp / sizeof(Pack<char>) + 1);
    for (int64_t k = 0; k < n; ++k) {
        std::memset(static_cast<void*>(shared.data()), 0xff, shared_per_warp); // NaN
        Warp warp(where.backwards, reinterpret_cast<char*>(shared.data()));
        function(warp, where.backwards ? n - 1 - k : k);
    }
}

#endif

} // namespace
} // namespace petmad::cuda

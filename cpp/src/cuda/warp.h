// How kernels are written, so that one source runs on a GPU and is judged on a CPU.
//
// A kernel is a functor. `each` kernels take an index and share nothing. `warps` kernels take an
// item and a Warp of 32 lanes: work is written as phases `warp.lanes([&](int lane) {...})`, each
// followed by a barrier; what a lane keeps from phase to phase lies in PerLane<T>, what lanes tell
// each other in shared memory or in sums over the warp. nvcc makes a phase the body of one thread;
// g++ makes it a loop over 32 lanes, forwards or backwards: a kernel whose lanes race within a
// phase answers differently in the two orders, which the tests look for.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define PETMAD_KERNEL __device__ __forceinline__
#else
#define PETMAD_KERNEL inline
#endif

namespace petmad::cuda {

namespace { // each compiler has its own Warp

constexpr int warp_size = 32;

/// 16 bytes that move at once.
template <typename T> struct alignas(16) Pack {
    static constexpr int size = 16 / static_cast<int>(sizeof(T));
    T values[size];
};

#if defined(__CUDACC__)

template <typename T> struct PerLane {
    T value{};
    PETMAD_KERNEL T& operator[](int) { return value; }
};

class Warp {
public:
    PETMAD_KERNEL Warp(int lane, char* shared) : lane_(lane), shared_(shared) {}

    template <typename Phase> PETMAD_KERNEL void lanes(Phase&& phase) {
        phase(lane_);
        __syncwarp();
    }

    template <typename T> PETMAD_KERNEL T* shared() { return reinterpret_cast<T*>(shared_); }

    template <typename T> PETMAD_KERNEL T sum(PerLane<T>& of) {
        T value = of.value;
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            value += __shfl_xor_sync(0xffffffffu, value, offset);
        }
        return value;
    }

    template <typename T> PETMAD_KERNEL T max(PerLane<T>& of) {
        T value = of.value;
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            const T other = __shfl_xor_sync(0xffffffffu, value, offset);
            value = other > value ? other : value;
        }
        return value;
    }

private:
    int lane_;
    char* shared_;
};

#else

template <typename T> struct PerLane {
    T values[warp_size]{};
    T& operator[](int lane) { return values[lane]; }
};

class Warp {
public:
    Warp(bool backwards, char* shared) : backwards_(backwards), shared_(shared) {}

    template <typename Phase> void lanes(Phase&& phase) {
        for (int k = 0; k < warp_size; ++k) {
            phase(backwards_ ? warp_size - 1 - k : k);
        }
    }

    template <typename T> T* shared() { return reinterpret_cast<T*>(shared_); }

    /// In the order of the GPU's butterfly.
    template <typename T> T sum(PerLane<T>& of) {
        return combined(of, [](T a, T b) { return a + b; });
    }

    template <typename T> T max(PerLane<T>& of) {
        return combined(of, [](T a, T b) { return b > a ? b : a; });
    }

private:
    template <typename T, typename Combine> static T combined(PerLane<T>& of, Combine combine) {
        T values[warp_size];
        for (int lane = 0; lane < warp_size; ++lane) {
            values[lane] = of[lane];
        }
        for (int half = warp_size / 2; half > 0; half /= 2) {
            for (int lane = 0; lane < half; ++lane) {
                values[lane] = combine(values[lane], values[lane + half]);
            }
        }
        return values[0];
    }

    bool backwards_;
    char* shared_;
};

#endif

} // namespace
} // namespace petmad::cuda

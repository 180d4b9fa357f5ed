// The smooth step of PET's cutoffs, ½[1 + tanh(cot πx)], and its slope; 1 and 0 outside the taper.
// One formula for CPUs and GPUs.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define PETMAD_ANYWHERE __host__ __device__ __forceinline__
#else
#define PETMAD_ANYWHERE inline
#endif

namespace petmad {

struct Bump {
    double value = 0.0;
    double slope = 0.0; ///< in the cutoff [1/Å]; in the distance it is the negative
};

PETMAD_ANYWHERE Bump bump(double distance, double cutoff, double width) {
    const double x = (distance - (cutoff - width)) / width;
    if (x <= 0.0) {
        return {1.0, 0.0};
    }
    if (x >= 1.0) {
        return {0.0, 0.0};
    }
    constexpr double pi = 3.14159265358979323846;
    constexpr double end = 1e-6; // TAPER_EPSILON of the plain version
    const double inside = x < end ? end : (x > 1.0 - end ? 1.0 - end : x);
    const double sine = std::sin(pi * inside);
    const double tangent = std::cos(pi * inside) / sine;
    // ½(1 + tanh c) = 1 / (1 + exp(-2c)), and 1 - tanh² c = 4 s (1 - s)
    const double s = 1.0 / (1.0 + std::exp(-2.0 * tangent));
    const double rest = 1.0 / (1.0 + std::exp(2.0 * tangent));
    return {s, 2.0 * pi / width * s * rest / (sine * sine)};
}

} // namespace petmad

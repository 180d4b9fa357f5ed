// exp() that the compiler can vectorise: no calls, no branches. Included by kernels_isa.cpp alone.
#pragma once

#include <cstdint>
#include <cstring>

namespace petmad::cpu {
namespace {

/// Relative error below 1e-7 (float) and 2e-16 (double) for finite x; exp(x < -87) is 1e-38 and
/// exp(x < -708) is 1e-308 rather than 0, exp of large x stays finite.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    constexpr float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to a whole number
    const float shifted = x * 1.44269504088896341f + magic;
    const float n = shifted - magic;
    float r = x - n * 0.693359375f; // ln 2 in two parts
    r = r + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<int32_t>((static_cast<uint32_t>(bits) + 127u) << 23);
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

inline double exponential(double x) {
    x = x < -708.0 ? -708.0 : x;
    x = x > 709.0 ? 709.0 : x;
    constexpr double magic = 6755399441055744.0; // 1.5 * 2^52
    const double shifted = x * 1.4426950408889634074 + magic;
    const double n = shifted - magic;
    double r = x - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0; // 1 / 13!
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<int64_t>((static_cast<uint64_t>(bits) + 1023u) << 52);
    double power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

template <typename T> T sigmoid(T x) { return T(1) / (T(1) + exponential(-x)); }

} // namespace
} // namespace petmad::cpu

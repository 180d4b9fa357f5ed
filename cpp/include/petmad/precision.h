// In which numbers the network's matrix products run. Geometry, adaptive cutoffs, list and sums of
// energies are float64 in every case; norms, softmax and activations keep the file's data type.
#pragma once

#include <string>

namespace petmad {

enum class Precision {
    file, ///< that of the exported file: fp32, or fp64
    fp64,
    fp32,
    tf32, ///< 10 bits of mantissa into products of float32, sums in float32; on GPUs
    fp16, ///< float16 into products, sums in float32; on GPUs
    bf16, ///< bfloat16 into products with weights, sums in float32; on CPUs that multiply in it
};

/// The name in input scripts: auto, fp64, fp32, tf32, fp16 or bf16.
std::string to_string(Precision precision);

/// Throws Error: another name.
Precision parse_precision(const std::string& name);

/// What `wanted` stands for, of a file of data type float32 or float64 on this kind of device.
/// Throws Error: what the device does not multiply in, or less than a float64 file holds.
Precision resolve_precision(Precision wanted, const std::string& file_dtype, bool on_gpu);

} // namespace petmad

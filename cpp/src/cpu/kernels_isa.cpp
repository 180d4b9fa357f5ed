// The kernels, compiled once per instruction set: PETMAD_ISA names the table this file makes.
#include "attention_kernel.h"
#include "kernels.h"
#include "product_kernel.h"
#include "row_kernels.h"

namespace petmad::cpu {
namespace {

template <typename T>
constexpr Kernels<T> table{
    rms_norm<T>,
    rms_norm_backward<T>,
    layer_norm<T>,
    layer_norm_backward<T>,
    silu<T>,
    silu_backward<T>,
    swiglu<T>,
    swiglu_backward<T>,
    add<T>,
    add_geometry<T>,
    multiply<T>,
    attention<T>,
    attention_backward<T>,
};

} // namespace

namespace PETMAD_ISA {

const Kernels<float>& float_kernels() { return table<float>; }
const Kernels<double>& double_kernels() { return table<double>; }

} // namespace PETMAD_ISA
} // namespace petmad::cpu

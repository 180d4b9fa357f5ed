#include "precision.h"

#include <array>
#include <atomic>
#include <utility>

#include <ATen/Context.h>

#include "cpu/product_bf16.h"
#include "petmad/error.h"

namespace petmad {
namespace {

constexpr std::array<std::pair<const char*, Precision>, 6> names{{
    {"auto", Precision::file},
    {"fp64", Precision::fp64},
    {"fp32", Precision::fp32},
    {"tf32", Precision::tf32},
    {"fp16", Precision::fp16},
    {"bf16", Precision::bf16},
}};

std::atomic<Precision>& of_products() {
    static std::atomic<Precision> precision{Precision::file};
    return precision;
}

} // namespace

std::string to_string(Precision precision) {
    for (const auto& [name, value] : names) {
        if (value == precision) {
            return name;
        }
    }
    return "unknown";
}

Precision parse_precision(const std::string& name) {
    for (const auto& [known, value] : names) {
        if (name == known) {
            return value;
        }
    }
    detail::fail("`precision` must be auto, fp64, fp32, tf32, fp16 or bf16, got '", name, "'");
}

Precision resolve_precision(Precision wanted, const std::string& file_dtype, bool on_gpu) {
    const bool is_double = file_dtype == "float64";
    if (wanted == Precision::file) {
        return is_double ? Precision::fp64 : Precision::fp32;
    }
    PETMAD_CHECK(
        !is_double || wanted == Precision::fp64, "`precision` is ", to_string(wanted),
        ", but the model file holds float64 weights; use fp64, or export the model with dtype "
        "float32"
    );
    const bool needs_gpu = wanted == Precision::tf32 || wanted == Precision::fp16;
    PETMAD_CHECK(
        on_gpu || !needs_gpu, "`precision` is ", to_string(wanted),
        ", which only GPUs multiply in, but the device is a CPU; use fp32 or fp64, or device cuda"
    );
    PETMAD_CHECK(
        wanted != Precision::bf16 || !on_gpu, "`precision` is bf16, which petmad multiplies in on "
                                              "CPUs, but the device is a GPU; use tf32 "
                                              "or fp16 there"
    );
    PETMAD_CHECK(
        wanted != Precision::bf16 || cpu::bf16_product() != nullptr,
        "`precision` is bf16, but the kernels in use are ", cpu::instruction_set(),
        " and this processor, or the compiler petmad was built with, lacks avx512_bf16, which it "
        "needs beside avx512; use fp32"
    );
    return wanted;
}

Precision product_precision() { return of_products(); }

void set_product_precision(Precision precision) { of_products() = precision; }

ProductPrecisionGuard::ProductPrecisionGuard(Precision precision)
    : precision_before_(product_precision()), tf32_before_(at::globalContext().allowTF32CuBLAS()) {
    set_product_precision(precision);
    // what the operators leave to torch: tf32 is the narrowest it multiplies float32 in
    const bool allow = precision == Precision::tf32 || precision == Precision::fp16;
    at::globalContext().setAllowTF32CuBLAS(allow);
}

ProductPrecisionGuard::~ProductPrecisionGuard() {
    set_product_precision(precision_before_);
    at::globalContext().setAllowTF32CuBLAS(tf32_before_);
}

} // namespace petmad

#include "precision.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
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

/// What a process multiplies in: petmad's operators, and torch on a GPU where that is set.
struct Setting {
    Precision products = Precision::file;
    std::optional<at::Float32Precision> torch;

    bool operator==(const Setting& other) const {
        return products == other.products && torch == other.torch;
    }
};

/// Evaluations that run. Both settings are the process's: those of other settings wait. Newcomers
/// of the setting that runs are let in all the same: they may be ranks, in threads, for whose
/// messages the running ones wait.
struct Users {
    std::mutex mutex;
    std::condition_variable changed;
    int count = 0;
    Setting now;
    Setting before; ///< the first came
};

Users& of_setting() {
    static Users users;
    return users;
}

/// Sets torch's precision of products of float32 on GPUs; returns what it was. Not by
/// allowTF32CuBLAS(), which throws where the user has set this one.
at::Float32Precision exchange_of_torch(at::Float32Precision precision) {
    constexpr auto backend = at::Float32Backend::CUDA;
    constexpr auto op = at::Float32Op::MATMUL;
    const at::Float32Precision before = at::globalContext().float32Precision(backend, op);
    if (before != precision) {
        at::globalContext().setFloat32Precision(backend, op, precision);
    }
    return before;
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

ProductPrecisionGuard::ProductPrecisionGuard(Precision precision, bool on_gpu) {
    const bool is_narrow = precision == Precision::tf32 || precision == Precision::fp16
                           || precision == Precision::bf16;
    // what the operators leave to torch: tf32 is the narrowest it multiplies float32 in
    Setting wanted{is_narrow ? precision : Precision::fp32, std::nullopt};
    if (on_gpu) {
        wanted.torch = precision == Precision::tf32 || precision == Precision::fp16
                           ? at::Float32Precision::TF32
                           : at::Float32Precision::IEEE;
    }
    Users& users = of_setting();
    std::unique_lock<std::mutex> lock(users.mutex);
    users.changed.wait(lock, [&] { return users.count == 0 || users.now == wanted; });
    if (users.count++ == 0) {
        users.before = {product_precision(), std::nullopt};
        users.now = wanted;
        set_product_precision(wanted.products);
        if (wanted.torch) {
            users.before.torch = exchange_of_torch(*wanted.torch);
        }
    }
}

ProductPrecisionGuard::~ProductPrecisionGuard() {
    Users& users = of_setting();
    const std::lock_guard<std::mutex> lock(users.mutex);
    if (--users.count > 0) {
        return;
    }
    set_product_precision(users.before.products);
    if (users.before.torch) {
        exchange_of_torch(*users.before.torch);
    }
    users.changed.notify_all();
}

} // namespace petmad

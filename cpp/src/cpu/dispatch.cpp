// Which table of kernels runs: the widest this processor knows, or the one asked for.
#include <atomic>

#include "kernels.h"
#include "petmad/error.h"
#include "product_bf16.h"
#include "search.h"

namespace petmad::cpu {

#define PETMAD_DECLARE_TABLES(isa)                                                                 \
    namespace isa {                                                                                \
    const Kernels<float>& float_kernels();                                                         \
    const Kernels<double>& double_kernels();                                                       \
    const SearchKernels& search_kernels();                                                         \
    }
PETMAD_DECLARE_TABLES(baseline)
#ifdef PETMAD_X86_KERNELS
PETMAD_DECLARE_TABLES(avx2)
PETMAD_DECLARE_TABLES(avx512)
#endif
#undef PETMAD_DECLARE_TABLES

namespace {

struct Choice {
    const char* name;
    const Kernels<float>* floats;
    const Kernels<double>* doubles;
    const SearchKernels* search;
};

#define PETMAD_TABLES(isa)                                                                         \
    {#isa, &isa::float_kernels(), &isa::double_kernels(), &isa::search_kernels()}

std::vector<Choice> choices() {
    std::vector<Choice> result;
#ifdef PETMAD_X86_KERNELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        result.push_back(PETMAD_TABLES(avx512));
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        result.push_back(PETMAD_TABLES(avx2));
    }
#endif
    result.push_back(PETMAD_TABLES(baseline));
    return result;
}

#undef PETMAD_TABLES

std::atomic<size_t>& chosen() {
    static std::atomic<size_t> index{0};
    return index;
}

const Choice& current() {
    static const std::vector<Choice> all = choices();
    return all[chosen()];
}

} // namespace

template <> const Kernels<float>& kernels<float>() { return *current().floats; }
template <> const Kernels<double>& kernels<double>() { return *current().doubles; }
const SearchKernels& search_kernels() { return *current().search; }

Bf16Product bf16_product() {
#ifdef PETMAD_BF16_KERNELS
    __builtin_cpu_init();
    if (instruction_set() == "avx512" && __builtin_cpu_supports("avx512bf16")) {
        return multiply_bf16;
    }
#endif
    return nullptr;
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Choice& choice : choices()) {
        names.emplace_back(choice.name);
    }
    return names;
}

std::string instruction_set() { return current().name; }

void choose_instruction_set(const std::string& name) {
    const std::vector<std::string> names = instruction_sets();
    std::string known;
    for (size_t k = 0; k < names.size(); ++k) {
        if (names[k] == name) {
            chosen() = k;
            return;
        }
        known += (k > 0 ? ", " : "") + names[k];
    }
    PETMAD_CHECK(
        false, "instruction set '", name, "' is not available here", "; choose one of ", known
    );
}

} // namespace petmad::cpu

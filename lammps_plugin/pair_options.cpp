// SPDX-License-Identifier: GPL-2.0-only
#include "pair_options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "elements.h"
#include "petmad/error.h"
#include "petmad/memory_plan.h"
#include "petmad/precision.h"

namespace petmad_lammps {

namespace {

constexpr int most_threads = 4096;

constexpr const char* usage =
    "pair_style petmad MODEL.pt [device auto|cpu|cuda|cuda:N] "
    "[precision auto|fp64|fp32|tf32|fp16|bf16] [threads N] [charge Q] [spin M] "
    "[memory auto|keep|wide|layers|MB] [forces gradient|direct] [uncertainty yes|no] "
    "[check yes|no] "
    "[mode auto|images|exchange|recompute] [halo DEPTH] "
    "[gpu/aware auto|yes|no]";

const std::vector<std::string> keywords{"device", "precision", "threads", "memory",
                                        "charge", "spin",      "forces",  "uncertainty",
                                        "check",  "mode",      "halo",    "gpu/aware"};

int parse_integer(
    const std::string& keyword, const std::string& value, int smallest,
    int largest = std::numeric_limits<int>::max()
) {
    int number = 0;
    const char* end = value.data() + value.size();
    const auto result = std::from_chars(value.data(), end, number);
    PETMAD_CHECK(
        result.ec == std::errc() && result.ptr == end && number >= smallest, "`", keyword,
        "` must be an integer of at least ", smallest, ", got '", value, "'"
    );
    PETMAD_CHECK(
        number <= largest, "`", keyword, "` must be at most ", largest, ", got '", value, "'"
    );
    return number;
}

std::string parse_device(const std::string& value) {
    // "emulated" is for tests and not told of: a GPU's lists and folds on the CPU
    const bool is_known =
        value == "auto" || value == "cpu" || value == "cuda" || value == "emulated";
    if (!is_known && value.rfind("cuda:", 0) == 0) {
        parse_integer("device cuda:", value.substr(5), 0);
        return value;
    }
    PETMAD_CHECK(is_known, "`device` must be auto, cpu, cuda or cuda:N, got '", value, "'");
    return value;
}

std::string parse_mode(const std::string& value) {
    PETMAD_CHECK(
        value == "auto" || value == "images" || value == "exchange" || value == "recompute",
        "`mode` must be auto, images, exchange or recompute, got '", value, "'"
    );
    return value;
}

double parse_length(const std::string& keyword, const std::string& value) {
    double number = 0.0;
    const char* end = value.data() + value.size();
    const auto result = std::from_chars(value.data(), end, number);
    PETMAD_CHECK(
        result.ec == std::errc() && result.ptr == end && number > 0.0 && std::isfinite(number), "`",
        keyword, "` must be a positive length in A, got '", value, "'"
    );
    return number;
}

bool parse_yes_no(const std::string& keyword, const std::string& value) {
    PETMAD_CHECK(
        value == "yes" || value == "no", "`", keyword, "` must be yes or no, got '", value, "'"
    );
    return value == "yes";
}

std::string symbols_of(const std::vector<int64_t>& atomic_numbers) {
    std::string text;
    for (const int64_t number : atomic_numbers) {
        text += (text.empty() ? "" : " ") + element_symbol(number);
    }
    return text;
}

int32_t species_of(const std::string& symbol, const std::vector<int64_t>& atomic_numbers) {
    const auto found =
        std::find_if(atomic_numbers.begin(), atomic_numbers.end(), [&](int64_t number) {
            return element_symbol(number) == symbol;
        });
    PETMAD_CHECK(
        found != atomic_numbers.end(), "element '", symbol,
        "' is not one of this model, which knows: ", symbols_of(atomic_numbers),
        "; give one of these, or NULL for a type that another pair style takes"
    );
    return static_cast<int32_t>(found - atomic_numbers.begin());
}

} // namespace

PairOptions parse_pair_options(const std::vector<std::string>& arguments) {
    PETMAD_CHECK(!arguments.empty(), "no model file was given; write: ", usage);
    PairOptions options;
    options.model = arguments[0];
    for (size_t i = 1; i < arguments.size(); i += 2) {
        const std::string& keyword = arguments[i];
        const bool is_known =
            std::find(keywords.begin(), keywords.end(), keyword) != keywords.end();
        PETMAD_CHECK(
            is_known, "unknown keyword '", keyword,
            "'; known are device, precision, threads, memory, charge, spin, forces, "
            "uncertainty, check, mode, halo and gpu/aware: ",
            usage
        );
        PETMAD_CHECK(
            i + 1 < arguments.size(), "keyword '", keyword, "' lacks its value; write: ", usage
        );
        const std::string& value = arguments[i + 1];
        if (keyword == "device") {
            options.device = parse_device(value);
        } else if (keyword == "precision") {
            options.precision = petmad::to_string(petmad::parse_precision(value));
        } else if (keyword == "threads") {
            options.n_threads = parse_integer(keyword, value, 1, most_threads);
        } else if (keyword == "memory") {
            petmad::parse_memory(value);
            options.memory = value;
        } else if (keyword == "charge") {
            options.charge = parse_integer(keyword, value, -1000000);
            options.is_conditioned = true;
        } else if (keyword == "spin") {
            options.spin_multiplicity = parse_integer(keyword, value, 1);
            options.is_conditioned = true;
        } else if (keyword == "mode") {
            options.mode = parse_mode(value);
        } else if (keyword == "halo") {
            options.halo = parse_length(keyword, value);
        } else if (keyword == "gpu/aware") {
            PETMAD_CHECK(
                value == "auto" || value == "yes" || value == "no",
                "`gpu/aware` must be auto, yes or no, got '", value, "'"
            );
            options.gpu_aware = value;
        } else if (keyword == "forces") {
            PETMAD_CHECK(
                value == "gradient" || value == "direct",
                "`forces` must be gradient or direct, got '", value, "'"
            );
            options.direct_forces = value == "direct";
        } else if (keyword == "uncertainty") {
            options.uncertainty = parse_yes_no(keyword, value);
        } else {
            options.check_golden = parse_yes_no(keyword, value);
        }
    }
    PETMAD_CHECK(
        options.halo == 0.0 || options.mode == "recompute",
        "`halo` sets how deep recomputed ghosts "
        "are, but the mode is ",
        options.mode, "; write `mode recompute` too, or remove `halo`"
    );
    return options;
}

std::string resolve_mode(const std::string& wanted, int n_ranks) {
    PETMAD_CHECK(
        wanted != "images" || n_ranks == 1,
        "`mode images` works on one rank, where every ghost "
        "is an image of an owned atom, but there are ",
        n_ranks, " ranks; use `mode exchange`, or leave the choice to `mode auto`"
    );
    if (wanted == "auto") {
        return n_ranks == 1 ? "images" : "exchange";
    }
    return wanted;
}

std::vector<int32_t> parse_elements(
    const std::vector<std::string>& elements, int n_types,
    const std::vector<int64_t>& atomic_numbers
) {
    PETMAD_CHECK(
        static_cast<int>(elements.size()) == n_types,
        "`pair_coeff * *` must name one element (or NULL) per atom type: there are ", n_types,
        " types, got ", elements.size(), " names"
    );
    std::vector<int32_t> species;
    for (const std::string& element : elements) {
        species.push_back(element == "NULL" ? -1 : species_of(element, atomic_numbers));
    }
    PETMAD_CHECK(
        std::any_of(species.begin(), species.end(), [](int32_t index) { return index >= 0; }),
        "`pair_coeff * *` names nothing but NULL; give at least one element of: ",
        symbols_of(atomic_numbers)
    );
    return species;
}

} // namespace petmad_lammps

// SPDX-License-Identifier: GPL-2.0-only
#include "report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "elements.h"

namespace petmad_lammps {

namespace {

// Wider than any natural mixture of isotopes; deuterium called H is off by 1.006 and warns.
constexpr double mass_tolerance = 1.0;

template <typename... Values> std::string format(const char* pattern, Values... values) {
    char line[512];
    std::snprintf(line, sizeof(line), pattern, values...);
    return line;
}

std::string name_of(const TypeEntry& type) {
    return type.species >= 0 ? element_symbol(type.atomic_number) : "NULL";
}

std::string describe_tensors(const std::vector<petmad::TensorInfo>& tensors) {
    if (tensors.empty()) {
        return {};
    }
    return "  tensors (compute petmad/tensor): " + list_tensors(tensors) + "\n";
}

} // namespace

std::string list_tensors(const std::vector<petmad::TensorInfo>& tensors) {
    std::string text;
    for (const petmad::TensorInfo& tensor : tensors) {
        text += (text.empty() ? "" : ", ") + tensor.name + " (" + tensor.kind + ", " + tensor.unit
                + (tensor.origin.empty() ? "" : ", origin " + tensor.origin) + ")";
    }
    return text;
}

std::string describe_setup(const petmad::ModelInfo& info, const RunSetup& setup) {
    const std::string mode = setup.mode == "images"
                                 ? "images (one rank: every ghost is an image of an owned atom)"
                                 : setup.mode + " (" + std::to_string(setup.n_ranks)
                                       + (setup.n_ranks == 1 ? " rank)" : " ranks)");
    return "pair_style petmad: model '" + info.name + "', weights "
           + info.weights_hash.substr(0, 12) + "\n  file: " + info.path
           + "\n  precision: " + setup.precision + " (file: " + info.dtype
           + "), device: " + setup.device + ", threads per rank: " + std::to_string(setup.n_threads)
           + ", kernels: " + setup.kernels + "\n  mode: " + mode
           + (setup.messages.empty() ? "" : ", messages through " + setup.messages)
           + format("\n  cutoff: %.6g A%s", info.cutoff, info.is_adaptive ? " (adaptive)" : "")
           + format("; reach: %lld hops,", static_cast<long long>(info.reach_hops))
           + format(" %.6g A; ghosts: %.6g A deep\n", info.reach, setup.ghost_depth)
           + describe_tensors(info.tensors);
}

std::string describe_types(const std::vector<TypeEntry>& types) {
    std::string text = "  type  element  species  mass\n";
    for (size_t i = 0; i < types.size(); ++i) {
        const std::string species = types[i].species >= 0 ? std::to_string(types[i].species) : "-";
        const std::string mass = types[i].mass > 0.0 ? format("%.6g", types[i].mass) : "per atom";
        text += format(
            "  %4zu  %-7s  %7s  %s\n", i + 1, name_of(types[i]).c_str(), species.c_str(),
            mass.c_str()
        );
    }
    return text;
}

std::vector<std::string> mass_warnings(const std::vector<TypeEntry>& types) {
    std::vector<std::string> warnings;
    for (size_t i = 0; i < types.size(); ++i) {
        const double expected = element_mass(types[i].atomic_number);
        const bool is_checked = types[i].species >= 0 && types[i].mass > 0.0 && expected > 0.0;
        if (is_checked && std::abs(types[i].mass - expected) > mass_tolerance) {
            warnings.push_back(
                format("pair_style petmad: atom type %zu has mass %.6g", i + 1, types[i].mass)
                + format(", but %s weighs %.6g g/mol", name_of(types[i]).c_str(), expected)
                + "; is the order of elements in pair_coeff that of the atom types?"
            );
        }
    }
    return warnings;
}

/// Rows of edges that all ranks evaluated against those of one rank.
std::string describe_work(const RunTotals& totals) {
    if (totals.n_owned_edge_rows <= 0.0) {
        return {};
    }
    std::string text = format(
        "  rows of edges per step: %.0f, %.4f times those of one rank", totals.n_evaluated_edges,
        totals.n_evaluated_edges / totals.n_owned_edge_rows
    );
    if (totals.recomputes && totals.side > 0.0) {
        const double all = std::pow(1.0 + 2.0 * totals.halo / totals.side, 3);
        text += format(" (all ghosts: (1 + 2h/a)^3 = %.4g)", all);
    }
    return text + "\n";
}

std::string describe_totals(const RunTotals& totals) {
    const double sum =
        totals.seconds_list + totals.seconds_exchange + totals.seconds_model + totals.seconds_fold;
    const auto line = [&](const char* name, double seconds) {
        const double share = sum > 0.0 ? 100.0 * seconds / sum : 0.0;
        return format("  %-9s %10.4g s %6.1f %%\n", name, seconds, share);
    };
    const double n_atoms = std::max(totals.n_owned, 1.0);
    return format(
               "pair_style petmad: %.0f evaluations, %.0f list builds, slowest rank\n",
               totals.n_evaluations, totals.n_list_builds
           )
           + line("list", totals.seconds_list) + line("exchange", totals.seconds_exchange)
           + line("model", totals.seconds_model) + line("fold", totals.seconds_fold)
           + format(
               "  reach: %.6g A used, %.6g A available; ghosts per rank: %.0f\n", totals.reach_used,
               totals.reach_available, totals.n_ghost / totals.n_ranks
           )
           + format(
               "  edges per atom: %.1f in the cutoff, %.1f kept\n", totals.n_raw_edges / n_atoms,
               totals.n_kept_edges / n_atoms
           )
           + describe_work(totals)
           + format(
               "  bytes sent per step: %.0f (messages of edges %.0f, values of ghosts %.0f)\n",
               totals.bytes_sent, totals.bytes_messages, totals.bytes_values
           );
}

} // namespace petmad_lammps

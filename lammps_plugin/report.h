// What the pair style writes to the log, as text.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>
#include <vector>

#include "petmad/types.h"

namespace petmad_lammps {

/// How a run is set up; one per pair style, equal on all ranks.
struct RunSetup {
    std::string device;
    int n_threads = 1;
    int n_ranks = 1;
    double ghost_depth = 0.0; ///< Å
};

/// One line of the table of types.
struct TypeEntry {
    int64_t atomic_number = 0; ///< 0 for NULL
    int32_t species = -1;
    double mass = 0.0; ///< g/mol; 0 where LAMMPS has none per type
};

/// Sums over all ranks of what happened since the start of the run.
struct RunTotals {
    double seconds_list = 0.0; ///< largest of all ranks, as are the following
    double seconds_exchange = 0.0;
    double seconds_model = 0.0;
    double seconds_fold = 0.0;
    double n_evaluations = 0.0;
    double n_list_builds = 0.0;
    double n_owned = 0.0; ///< last evaluation, as are the following
    double n_raw_edges = 0.0;
    double n_kept_edges = 0.0;
    double bytes_sent = 0.0;
};

/// Model, precision, device, threads, mode and reach.
std::string describe_setup(const petmad::ModelInfo& info, const RunSetup& setup);

/// Table type -> element -> species -> mass.
std::string describe_types(const std::vector<TypeEntry>& types);

/// Warnings about masses that are more than 1 g/mol off their element; one per type.
std::vector<std::string> mass_warnings(const std::vector<TypeEntry>& types);

/// Where the time went, edges per atom, bytes per step.
std::string describe_totals(const RunTotals& totals);

} // namespace petmad_lammps

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
    std::string precision; ///< of the network's matrix products
    std::string mode;      ///< images, exchange or recompute
    int n_threads = 1;
    int n_ranks = 1;
    std::string kernels;      ///< what the network runs on
    double ghost_depth = 0.0; ///< Å
    std::string messages;     ///< where those of a GPU pass; empty where there are none
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
    double reach_used = 0.0;      ///< Å around a rank's part of the box, at most in the run
    double reach_available = 0.0; ///< Å, at least
    double n_owned = 0.0;         ///< last evaluation, as are the following
    double n_ghost = 0.0;
    double n_raw_edges = 0.0;
    double n_kept_edges = 0.0;
    double n_owned_edge_rows = 0.0; ///< what one rank would evaluate; 0 where the file does not say
    double n_evaluated_edges = 0.0;
    double bytes_sent = 0.0;
    double bytes_messages = 0.0;
    double bytes_values = 0.0;
    bool recomputes = false;
    double halo = 0.0; ///< Å, asked of ghosts, without the skin
    int n_ranks = 1;
    double side = 0.0; ///< Å, of a cube as large as a rank's part of the box
};

/// Model, precision, device, threads, mode and reach.
std::string describe_setup(const petmad::ModelInfo& info, const RunSetup& setup);

/// Names of tensor targets with kind and unit, in one line without an end.
std::string list_tensors(const std::vector<petmad::TensorInfo>& tensors);

/// Table type -> element -> species -> mass.
std::string describe_types(const std::vector<TypeEntry>& types);

/// Warnings about masses that are more than 1 g/mol off their element; one per type.
std::vector<std::string> mass_warnings(const std::vector<TypeEntry>& types);

/// Where the time went, reach, ghosts, edges per atom, work and bytes per step.
std::string describe_totals(const RunTotals& totals);

} // namespace petmad_lammps

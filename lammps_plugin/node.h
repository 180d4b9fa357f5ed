// SPDX-License-Identifier: GPL-2.0-only
// Ranks that run on one node: their places, and what they share.
#pragma once

#include <string>

#include <mpi.h>

namespace petmad_lammps {

/// A rank among those of its node.
struct PlaceInNode {
    int rank = 0;
    int n_ranks = 1;
};

/// Collective.
PlaceInNode place_in_node(MPI_Comm world);

/// How many ranks of this node, this one included, give the same identity: on the CPU, where it is
/// empty, all of them; on a GPU (petmad::device_identity) those that share it. Collective.
int count_sharing(MPI_Comm world, const std::string& identity);

} // namespace petmad_lammps

// How far outside of this rank's part of the box each ghost is.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <vector>

namespace LAMMPS_NS {
class Atom;
class Domain;
} // namespace LAMMPS_NS

namespace petmad_lammps {

/// [n_ghosts] Å, the largest of the three directions, each measured between lattice planes: the
/// measure by which LAMMPS picks ghosts, for boxes of any shape.
std::vector<double> distances_from_domain(const LAMMPS_NS::Atom& atom, LAMMPS_NS::Domain& domain);

} // namespace petmad_lammps

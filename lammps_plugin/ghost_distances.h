// How far outside of this rank's part of the box each ghost is.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <array>
#include <vector>

namespace LAMMPS_NS {
class Atom;
class Domain;
} // namespace LAMMPS_NS

namespace petmad_lammps {

/// A rank's part of the box, as it was when ghosts were picked.
class BoxPart {
public:
    BoxPart() = default;
    explicit BoxPart(const LAMMPS_NS::Domain& domain);

    /// [n_ghosts] Å, the largest of the three directions, each measured between lattice planes:
    /// the measure by which LAMMPS picks ghosts, for boxes of any shape.
    std::vector<double> distances_of_ghosts(const LAMMPS_NS::Atom& atom) const;

private:
    std::array<double, 3> origin_{};  ///< Å
    std::array<double, 6> inverse_{}; ///< of the box, xx yy zz yz xz xy
    std::array<double, 3> low_{};     ///< fractions of the box
    std::array<double, 3> high_{};
    std::array<double, 3> unit_{}; ///< Å between planes one fraction apart
};

} // namespace petmad_lammps

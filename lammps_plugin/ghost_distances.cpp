// SPDX-License-Identifier: GPL-2.0-only
#include "ghost_distances.h"

#include <algorithm>
#include <cmath>

#include "atom.h"
#include "domain.h"

namespace petmad_lammps {

std::vector<double> distances_from_domain(const LAMMPS_NS::Atom& atom, LAMMPS_NS::Domain& domain) {
    const bool is_triclinic = domain.triclinic != 0;
    const double* low = is_triclinic ? domain.sublo_lamda : domain.sublo;
    const double* high = is_triclinic ? domain.subhi_lamda : domain.subhi;
    double unit[3] = {1.0, 1.0, 1.0}; // Å per unit of the coordinate, normal to the planes
    if (is_triclinic) {
        const double* inverse = domain.h_inv; // xx yy zz yz xz xy
        unit[0] = 1.0 / std::hypot(inverse[0], inverse[5], inverse[4]);
        unit[1] = 1.0 / std::hypot(inverse[1], inverse[3]);
        unit[2] = 1.0 / inverse[2];
    }
    std::vector<double> distances;
    for (int i = atom.nlocal; i < atom.nlocal + atom.nghost; ++i) {
        double x[3];
        std::copy_n(atom.x[i], 3, x);
        if (is_triclinic) {
            domain.x2lamda(atom.x[i], x);
        }
        double distance = 0.0;
        for (int k = 0; k < 3; ++k) {
            distance = std::max({distance, (low[k] - x[k]) * unit[k], (x[k] - high[k]) * unit[k]});
        }
        distances.push_back(distance);
    }
    return distances;
}

} // namespace petmad_lammps

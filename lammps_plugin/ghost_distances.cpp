// SPDX-License-Identifier: GPL-2.0-only
#include "ghost_distances.h"

#include <algorithm>
#include <cmath>

#include "atom.h"
#include "domain.h"

namespace petmad_lammps {

BoxPart::BoxPart(const LAMMPS_NS::Domain& domain) {
    const double* inverse = domain.h_inv;
    std::copy_n(domain.boxlo, 3, origin_.begin());
    std::copy_n(inverse, 6, inverse_.begin());
    unit_[0] = 1.0 / std::hypot(inverse[0], inverse[5], inverse[4]);
    unit_[1] = 1.0 / std::hypot(inverse[1], inverse[3]);
    unit_[2] = 1.0 / inverse[2];
    for (int k = 0; k < 3; ++k) {
        const bool is_triclinic = domain.triclinic != 0;
        const auto fraction = [&](double x) { return (x - origin_[k]) * inverse_[k]; };
        low_[k] = is_triclinic ? domain.sublo_lamda[k] : fraction(domain.sublo[k]);
        high_[k] = is_triclinic ? domain.subhi_lamda[k] : fraction(domain.subhi[k]);
    }
}

std::vector<double> BoxPart::distances_of_ghosts(const LAMMPS_NS::Atom& atom) const {
    std::vector<double> distances;
    for (int i = atom.nlocal; i < atom.nlocal + atom.nghost; ++i) {
        const double x = atom.x[i][0] - origin_[0];
        const double y = atom.x[i][1] - origin_[1];
        const double z = atom.x[i][2] - origin_[2];
        const double fractions[3] = {
            inverse_[0] * x + inverse_[5] * y + inverse_[4] * z, inverse_[1] * y + inverse_[3] * z,
            inverse_[2] * z
        };
        double distance = 0.0;
        for (int k = 0; k < 3; ++k) {
            const double outside = std::max(low_[k] - fractions[k], fractions[k] - high_[k]);
            distance = std::max(distance, outside * unit_[k]);
        }
        distances.push_back(distance);
    }
    return distances;
}

} // namespace petmad_lammps

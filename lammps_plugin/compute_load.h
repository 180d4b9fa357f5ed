// compute petmad/load: the number of kept edges of each atom, which is what it costs. A weight for
// `balance` and `fix balance`; the scalar is the imbalance between ranks.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <vector>

#include "compute.h"
#include "pair.h"

namespace petmad_lammps {

class ComputeLoad final : public LAMMPS_NS::Compute {
public:
    ComputeLoad(LAMMPS_NS::LAMMPS* lmp, int n_arguments, char** arguments);

    void init() override;
    void compute_peratom() override;
    double compute_scalar() override;
    double memory_usage() override;

private:
    std::vector<LAMMPS_NS::Pair*> pairs() const;

    std::vector<double> loads_; ///< [n_owned]
};

} // namespace petmad_lammps

// SPDX-License-Identifier: GPL-2.0-only
#include "compute_load.h"

#include <mpi.h>

#include <numeric>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "pair.h"
#include "update.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

ComputeLoad::ComputeLoad(LAMMPS* lammps, int n_arguments, char** arguments)
    : Compute(lammps, n_arguments, arguments) {
    if (n_arguments != 3) {
        error->all(
            FLERR, "compute petmad/load: takes no arguments; write: compute ID GROUP petmad/load"
        );
    }
    peratom_flag = 1;
    size_peratom_cols = 0;
    scalar_flag = 1;
    extscalar = 0;
}

/// Several under a hybrid style.
std::vector<Pair*> ComputeLoad::pairs() const {
    std::vector<Pair*> found;
    for (int k = 1;; ++k) {
        Pair* pair = force->pair_match("petmad", 1, k);
        if (pair == nullptr || (!found.empty() && pair == found.back())) {
            return found;
        }
        found.push_back(pair);
    }
}

void ComputeLoad::init() {
    if (pairs().empty()) {
        error->all(
            FLERR, "compute petmad/load: there is no `pair_style petmad`; define it before the run"
        );
    }
}

/// 1 beside the edges: an atom without neighbors is not free.
void ComputeLoad::compute_peratom() {
    invoked_peratom = update->ntimestep;
    loads_.assign(atom->nmax, 0.0);
    vector_atom = loads_.data();
    for (int i = 0; i < atom->nlocal; ++i) {
        loads_[i] = (atom->mask[i] & groupbit) != 0 ? 1.0 : 0.0;
    }
    for (Pair* pair : pairs()) {
        int n_columns = 0;
        const auto* edges = static_cast<double*>(pair->extract_peratom("kept_edges", n_columns));
        for (int i = 0; edges != nullptr && i < atom->nlocal; ++i) {
            if ((atom->mask[i] & groupbit) != 0) {
                loads_[i] += edges[i];
            }
        }
    }
}

/// Largest load of a rank divided by the mean.
double ComputeLoad::compute_scalar() {
    invoked_scalar = update->ntimestep;
    compute_peratom(); // again: atoms may have moved to other ranks within this step
    const double own = std::accumulate(loads_.begin(), loads_.begin() + atom->nlocal, 0.0);
    double largest = 0.0;
    double sum = 0.0;
    MPI_Allreduce(&own, &largest, 1, MPI_DOUBLE, MPI_MAX, world);
    MPI_Allreduce(&own, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
    scalar = sum > 0.0 ? largest * comm->nprocs / sum : 1.0;
    return scalar;
}

double ComputeLoad::memory_usage() {
    return static_cast<double>(loads_.capacity() * sizeof(double));
}

} // namespace petmad_lammps

// What the stub looks up in the real library.
// SPDX-License-Identifier: GPL-2.0-only
#include "compute_load.h"
#include "compute_tensor.h"
#include "pair_petmad.h"

extern "C" __attribute__((visibility("default"))) void* petmad_make_pair(void* lmp) {
    LAMMPS_NS::Pair* pair = new petmad_lammps::PairPetmad(static_cast<LAMMPS_NS::LAMMPS*>(lmp));
    return pair;
}

extern "C" __attribute__((visibility("default"))) void*
petmad_make_load(void* lmp, int n_arguments, char** arguments) {
    LAMMPS_NS::Compute* compute = new petmad_lammps::ComputeLoad(
        static_cast<LAMMPS_NS::LAMMPS*>(lmp), n_arguments, arguments
    );
    return compute;
}

extern "C" __attribute__((visibility("default"))) void*
petmad_make_tensor(void* lmp, int n_arguments, char** arguments) {
    LAMMPS_NS::Compute* compute = new petmad_lammps::ComputeTensor(
        static_cast<LAMMPS_NS::LAMMPS*>(lmp), n_arguments, arguments
    );
    return compute;
}

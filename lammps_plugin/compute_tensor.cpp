// SPDX-License-Identifier: GPL-2.0-only
#include "compute_tensor.h"

#include <mpi.h>

#include <algorithm>

#include "atom.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "pair.h"
#include "update.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

namespace {

constexpr const char* prefix = "compute petmad/tensor: ";
constexpr const char* usage = "compute ID all petmad/tensor TARGET [peratom yes|no]";

} // namespace

ComputeTensor::ComputeTensor(LAMMPS* lammps, int n_arguments, char** arguments)
    : Compute(lammps, n_arguments, arguments) {
    const bool has_option = n_arguments == 6 && std::string(arguments[4]) == "peratom";
    const std::string value = has_option ? arguments[5] : "no";
    if ((n_arguments != 4 && !has_option) || (value != "yes" && value != "no")) {
        error->all(
            FLERR, prefix + std::string("takes a target of the model, and whether values of atoms ")
                       + "are wanted; write: " + usage
        );
    }
    if (igroup != 0) {
        error->all(
            FLERR, prefix + std::string("the group must be all, since the model does not divide ")
                       + "its tensors between groups; sum those of atoms: `peratom yes` and "
                         "`compute reduce`"
        );
    }
    target_ = arguments[3];
    vector_flag = 1;
    size_vector = static_cast<int>(info().n_entries);
    extvector = 1;
    vector = new double[size_vector]();
    peratom_flag = value == "yes" ? 1 : 0;
    size_peratom_cols = size_vector;
    timeflag = 1; // keeps the steps at which it will be asked
}

ComputeTensor::~ComputeTensor() {
    delete[] vector;
    memory->destroy(array_atom);
}

/// The model may be another one than that of the constructor.
void ComputeTensor::init() {
    const petmad::TensorInfo& info = this->info();
    const int charge = results().charge;
    if (info.kind == "vector" && !info.per_atom && info.origin.empty() && charge != 0) {
        error->all(
            FLERR, prefix + ("`" + target_ + "` of a system with charge ") + std::to_string(charge)
                       + " may depend on the origin, but the model records none; train it with "
                         "`targets."
                       + target_ + ".origin`"
        );
    }
    if (info.n_entries != size_vector) {
        error->all(
            FLERR, prefix + ("`" + target_ + "` has ") + std::to_string(info.n_entries)
                       + " numbers now and had " + std::to_string(size_vector)
                       + " when the compute was defined; define it again after `pair_style petmad`"
        );
    }
}

const TensorResults& ComputeTensor::results() const {
    Pair* pair = force->pair_match("petmad", 1);
    int dimension = 0;
    void* found = pair == nullptr ? nullptr : pair->extract(tensor_results_name, dimension);
    if (found == nullptr) {
        error->all(
            FLERR, prefix + std::string("there is no `pair_style petmad`, or there are several; ")
                       + "define one before the compute"
        );
    }
    return *static_cast<TensorResults*>(found);
}

const petmad::TensorInfo& ComputeTensor::info() const {
    std::string known;
    for (const petmad::TensorInfo& target : results().targets) {
        if (target.name == target_) {
            return target;
        }
        known += (known.empty() ? "" : ", ") + target.name;
    }
    error->all(
        FLERR, prefix + ("the model has no tensor target '" + target_ + "'; ")
                   + (known.empty() ? "it has none at all: train it with `targets`, and export it "
                                      "with this version of petmad"
                                    : "its targets are: " + known)
    );
}

const petmad::Output& ComputeTensor::current() const {
    const TensorResults& results = this->results();
    const auto found = results.values.find(target_);
    if (results.step != update->ntimestep || found == results.values.end()) {
        error->all(
            FLERR, prefix + ("`" + target_ + "` was not evaluated on this step, since nobody ")
                       + "announced that it would be needed; ask for it in thermo_style, a fix or "
                         "a dump that is active in the run, on steps of their output"
        );
    }
    return found->second;
}

void ComputeTensor::compute_vector() {
    invoked_vector = update->ntimestep;
    const std::vector<double>& own = current().sum;
    MPI_Allreduce(own.data(), vector, size_vector, MPI_DOUBLE, MPI_SUM, world);
}

void ComputeTensor::compute_peratom() {
    invoked_peratom = update->ntimestep;
    if (n_rows_ < atom->nmax) {
        n_rows_ = atom->nmax;
        memory->destroy(array_atom);
        memory->create(array_atom, n_rows_, size_peratom_cols, "petmad/tensor:array");
    }
    const std::vector<double>& rows = current().atoms;
    if (!rows.empty()) {
        std::copy(rows.begin(), rows.end(), array_atom[0]);
    }
}

double ComputeTensor::memory_usage() {
    return static_cast<double>(n_rows_) * size_peratom_cols * sizeof(double);
}

std::vector<std::string> tensors_wanted(LAMMPS* lmp) {
    std::vector<std::string> names;
    for (Compute* compute : lmp->modify->get_compute_by_style("^petmad/tensor$")) {
        auto* tensor = dynamic_cast<ComputeTensor*>(compute);
        if (tensor == nullptr || tensor->matchstep(lmp->update->ntimestep) == 0) {
            continue;
        }
        if (std::find(names.begin(), names.end(), tensor->target()) == names.end()) {
            names.push_back(tensor->target());
        }
    }
    return names;
}

} // namespace petmad_lammps

// What PairPetmad tells the log, before and after a run.
// SPDX-License-Identifier: GPL-2.0-only
#include "pair_petmad.h"

#include <algorithm>
#include <cmath>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "modify.h"
#include "neighbor.h"
#include "utils.h"

#include "petmad/devices.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

/// Before the layers run for the first time, and when the tier changes.
void PairPetmad::report_memory(const petmad::MemoryPlan& plan) {
    const std::string tier = to_string(plan.tier);
    if (comm->me == 0 && tier != reported_tier_) {
        const char* whose = comm->nprocs > 1 ? "  rank 0, " : "  ";
        utils::logmesg(lmp, whose + petmad::describe(plan) + "\n");
    }
    reported_tier_ = tier;
}

std::vector<TypeEntry> PairPetmad::type_entries() const {
    std::vector<TypeEntry> types;
    for (int type = 1; type <= atom->ntypes; ++type) {
        TypeEntry entry;
        entry.species = species_of_type_[type];
        if (entry.species >= 0) {
            entry.atomic_number = engine_->info().atomic_numbers[entry.species];
        }
        if (atom->mass != nullptr && atom->mass_setflag[type]) {
            entry.mass = atom->mass[type];
        }
        types.push_back(entry);
    }
    return types;
}

void PairPetmad::report_setup() {
    if (comm->me != 0) {
        return;
    }
    RunSetup setup;
    setup.device = device_;
    setup.precision = to_string(engine_->precision());
    setup.mode = mode_;
    setup.n_threads = n_threads_;
    setup.n_ranks = comm->nprocs;
    setup.kernels = petmad::kernels_on(device_);
    setup.ghost_depth = ghost_depth();
    if (device_ != "cpu" && mode_ == "exchange" && transport_) {
        setup.messages =
            transport_->reads_device_memory() ? "GPU memory (gpu/aware)" : "pinned host memory";
    }
    utils::logmesg(
        lmp,
        describe_setup(engine_->info(), setup) + extras_.describe() + describe_types(type_entries())
    );
    const auto differs = [](double factor) { return factor != 1.0; };
    if (atom->molecular != Atom::ATOMIC
        && (std::any_of(force->special_lj + 1, force->special_lj + 4, differs)
            || std::any_of(force->special_coul + 1, force->special_coul + 4, differs))) {
        utils::logmesg(
            lmp, "  note: special_bonds does not act on petmad, bonded pairs are kept\n"
        );
    }
}

/// Before every run, each once: computes and masses may have come since the last.
void PairPetmad::report_warnings() {
    if (comm->me != 0) {
        return;
    }
    std::vector<std::string> warnings = mass_warnings(type_entries());
    if (!modify->get_compute_by_style("^heat/flux$").empty()) {
        warnings.push_back(
            std::string(prefix)
            + "compute heat/flux is not the heat flux of a message-passing model, whose atomic "
              "energies depend on edges of other atoms; take no transport coefficient from it"
        );
    }
    for (const std::string& warning : warnings) {
        if (told_warnings_.insert(warning).second) {
            error->warning(FLERR, warning);
        }
    }
}

/// Once; fix gcmc excludes a group after init_style().
void PairPetmad::report_exclusions() {
    if (neighbor->nex_group > 0 && !exclusions_are_reported_ && comm->me == 0) {
        utils::logmesg(
            lmp, std::string(prefix)
                     + "atoms of a group excluded from `all` (neigh_modify, or a fix like gcmc) "
                       "take no part\n"
        );
        exclusions_are_reported_ = true;
    }
}

void PairPetmad::finish() {
    if (!engine_) {
        return;
    }
    const petmad::Statistics& now = engine_->statistics();
    double largest[7] = {
        now.seconds_list - at_start_.seconds_list,
        now.seconds_exchange - at_start_.seconds_exchange,
        now.seconds_model - at_start_.seconds_model,
        now.seconds_fold - at_start_.seconds_fold,
        static_cast<double>(n_evaluations_),
        static_cast<double>(now.n_list_builds - at_start_.n_list_builds),
        reach_used_,
    };
    double sums[9] = {
        static_cast<double>(now.n_owned),           static_cast<double>(now.n_ghost),
        static_cast<double>(now.n_raw_edges),       static_cast<double>(now.n_kept_edges),
        static_cast<double>(now.n_owned_edge_rows), static_cast<double>(now.n_evaluated_edges),
        static_cast<double>(now.bytes_sent),        static_cast<double>(now.bytes_messages),
        static_cast<double>(now.bytes_values),
    };
    MPI_Allreduce(MPI_IN_PLACE, largest, 7, MPI_DOUBLE, MPI_MAX, world);
    MPI_Allreduce(MPI_IN_PLACE, sums, 9, MPI_DOUBLE, MPI_SUM, world);
    if (comm->me == 0 && n_evaluations_ > 0) {
        const Domain& box = *Pointers::domain;
        const double moved = (recomputes() ? 0.5 : 1.0) * neighbor->skin;
        RunTotals totals{largest[0], largest[1], largest[2], largest[3],
                         largest[4], largest[5], largest[6], ghost_depth() - moved,
                         sums[0],    sums[1],    sums[2],    sums[3],
                         sums[4],    sums[5],    sums[6],    sums[7],
                         sums[8]};
        totals.recomputes = recomputes();
        totals.halo = ghost_depth() - neighbor->skin;
        totals.n_ranks = comm->nprocs;
        totals.side = std::cbrt(box.xprd * box.yprd * box.zprd / comm->nprocs);
        utils::logmesg(lmp, describe_totals(totals));
    }
}

} // namespace petmad_lammps

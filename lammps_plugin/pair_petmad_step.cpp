// One evaluation of PairPetmad, read top to bottom.
// SPDX-License-Identifier: GPL-2.0-only
#include "pair_petmad.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <numeric>
#include <thread>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "neighbor.h"
#include "update.h"

#include "compute_tensor.h"
#include "petmad/error.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

void PairPetmad::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    if (!engine_) { // `run pre no` checks nothing; the same on all ranks
        together([&] { check_model(); });
    }
    if (is_first_ || exclusions_ != exclusions()) { // which `run pre no` does not tell
        together([&] {
            check_hybrid();
            check_exclusions();
        });
        exclusions_ = exclusions();
        report_exclusions();
    }
    const bool changed = atoms_changed();
    try {
        if (changed) {
            refresh_ghosts();
        }
        if (recomputes()) {
            ghost_distances_ = box_part_.distances_of_ghosts(*atom);
        }
        const petmad::Results& results =
            engine_->evaluate(domain(changed), transport_.get(), requests());
        add_results(results);
        tensors_.step = update->ntimestep;
        tensors_.values = results.outputs;
        kept_edges_ = results.kept_edges;
    } catch (const LAMMPSException&) {
        throw;
    } catch (const std::exception& exception) {
        fail_in_compute(exception.what());
    }
    is_first_ = false;
    list_build_ = {neighbor->ncalls, neighbor->lastcall};
    ++n_evaluations_;
    reach_used_ = std::max(reach_used_, engine_->statistics().reach_used);
}

/// Direct forces and stresses spare the backward pass, unless per-atom virials are wanted.
petmad::Requests PairPetmad::requests() const {
    petmad::Requests requests;
    requests.forces = !extras_.is_direct();
    requests.virial = vflag_either != 0 && !extras_.has_direct_stress();
    requests.atomic_virials = vflag_atom || cvflag_atom;
    requests.outputs = extras_.requests(eflag_either != 0 || uncertainty_is_wanted_ != 0);
    for (std::string& name : tensors_wanted(lmp)) {
        requests.outputs.push_back(std::move(name));
    }
    return requests;
}

/// Whether atoms, ghosts or species differ from the last evaluation; the same on all ranks. A
/// change of species alone (fix atom/swap) comes without a new list of LAMMPS. Stops where all
/// ghosts went without one: displace_atoms and change_box drop them.
bool PairPetmad::atoms_changed() {
    const int n_total = atom->nlocal + atom->nghost;
    const bool has_new_list = is_first_ || neighbor->ncalls != list_build_.count
                              || neighbor->lastcall != list_build_.step;
    bool changed =
        has_new_list || neighbor->ago == 0 || static_cast<int>(species_.size()) != n_total;
    const int excluded = excluded_groups();
    species_.resize(n_total);
    for (int i = 0; i < n_total; ++i) {
        const bool is_out = (atom->mask[i] & excluded) != 0;
        const int32_t species = is_out ? -1 : species_of_type_[atom->type[i]];
        changed = changed || species != species_[i];
        species_[i] = species;
    }
    const bool had_ghosts = !is_first_ && n_ghosts_ > 0;
    int anywhere[4] = {changed, has_new_list, had_ghosts, atom->nghost > 0};
    if (comm->nprocs > 1) {
        MPI_Allreduce(MPI_IN_PLACE, anywhere, 4, MPI_INT, MPI_MAX, world);
    }
    if (anywhere[1] == 0 && anywhere[2] != 0 && anywhere[3] == 0) {
        error->all(
            FLERR, std::string(prefix)
                       + "all ghost atoms went without a new neighbor list, as after "
                         "displace_atoms or change_box; leave out `pre no` of the run command"
        );
    }
    n_ghosts_ = atom->nghost;
    return anywhere[0] != 0;
}

/// What the core must know about ghosts beside their positions, once per list of LAMMPS.
void PairPetmad::refresh_ghosts() {
    const double depth = ghost_depth();
    PETMAD_CHECK(
        comm->get_comm_cutoff() >= depth - 1e-9, "ghost atoms reach ", comm->get_comm_cutoff(),
        " A, but ", recomputes() ? "reach" : "cutoff", " + skin = ", depth,
        " A is needed; remove or raise `comm_modify cutoff`"
    );
    skin_of_list_ = neighbor->skin;
    labels_.clear();
    if (atom->tag_enable) {
        labels_.assign(atom->tag, atom->tag + atom->nlocal + atom->nghost);
    }
    if (recomputes()) {
        box_part_ = BoxPart(*Pointers::domain);
    } else {
        refresh_owners();
    }
}

/// Tells every ghost who owns it.
void PairPetmad::refresh_owners() {
    const int n_total = atom->nlocal + atom->nghost;
    owner_ranks_.assign(n_total, comm->me);
    owner_indices_.resize(n_total);
    for (int i = 0; i < atom->nlocal; ++i) {
        owner_indices_[i] = i;
    }
    comm->forward_comm(this);
}

int PairPetmad::pack_forward_comm(int n, int* atoms, double* buffer, int, int*) {
    for (int k = 0; k < n; ++k) {
        buffer[2 * k] = owner_ranks_[atoms[k]];
        buffer[2 * k + 1] = owner_indices_[atoms[k]];
    }
    return 2 * n;
}

void PairPetmad::unpack_forward_comm(int n, int first, double* buffer) {
    for (int k = 0; k < n; ++k) {
        owner_ranks_[first + k] = static_cast<int32_t>(buffer[2 * k]);
        owner_indices_[first + k] = static_cast<int32_t>(buffer[2 * k + 1]);
    }
}

petmad::DomainView PairPetmad::domain(bool changed) const {
    petmad::DomainView view;
    view.n_owned = atom->nlocal;
    view.n_total = atom->nlocal + atom->nghost;
    view.positions = view.n_total > 0 ? atom->x[0] : nullptr;
    view.species = species_.data();
    if (recomputes()) {
        view.mode = petmad::GhostMode::recompute;
        view.ghost_depth = comm->get_comm_cutoff();
        view.ghost_distances = ghost_distances_.data();
    } else {
        view.ghost_ranks = owner_ranks_.data() + atom->nlocal;
        view.ghost_owners = owner_indices_.data() + atom->nlocal;
    }
    view.labels = labels_.empty() ? nullptr : labels_.data();
    view.atoms_changed = changed;
    view.skin = skin_of_list_;
    view.charge = options_.charge;
    view.spin_multiplicity = options_.spin_multiplicity;
    return view;
}

void PairPetmad::add_results(const petmad::Results& results) {
    add_forces(results);
    if (extras_.has_uncertainty() && results.outputs.count("energy_uncertainty") > 0) {
        extras_.store_uncertainty(results, energy_unit_);
    }
    if (eflag_global) {
        eng_vdwl += energy_unit_ * results.energy;
    }
    if (eflag_atom) {
        for (int i = 0; i < atom->nlocal; ++i) {
            eatom[i] += energy_unit_ * results.atomic_energies[i];
        }
    }
    if (vflag_global) {
        constexpr int voigt[6] = {0, 4, 8, 1, 2, 5}; // xx yy zz xy xz yz
        const auto whole = extras_.has_direct_stress() ? extras_.virial(results) : results.virial;
        for (int k = 0; k < 6; ++k) {
            virial[k] += energy_unit_ * whole[voigt[k]];
        }
    }
    if (vflag_atom || cvflag_atom) {
        add_atomic_virials(results);
    }
}

void PairPetmad::add_forces(const petmad::Results& results) {
    const bool is_direct = extras_.is_direct();
    const std::vector<double> direct =
        is_direct ? extras_.forces(results, species_) : std::vector<double>();
    const std::vector<double>& forces = is_direct ? direct : results.forces;
    const int n_atoms = static_cast<int>(forces.size() / 3);
    for (int i = 0; i < n_atoms; ++i) {
        for (int a = 0; a < 3; ++a) {
            atom->f[i][a] += energy_unit_ * forces[3 * i + a];
        }
    }
}

void PairPetmad::add_atomic_virials(const petmad::Results& results) {
    constexpr int row_major[9] = {0, 4, 8, 1, 2, 5, 3, 6, 7}; // xx yy zz xy xz yz yx zx zy
    constexpr int transposed[9] = {0, 4, 8, 3, 6, 7, 1, 2, 5};
    const int n_total = atom->nlocal + atom->nghost;
    for (int i = 0; i < n_total; ++i) {
        const double* w = results.atomic_virials.data() + 9 * static_cast<int64_t>(i);
        for (int k = 0; k < 6 && vflag_atom; ++k) {
            vatom[i][k] += 0.5 * energy_unit_ * (w[row_major[k]] + w[transposed[k]]);
        }
        for (int k = 0; k < 9 && cvflag_atom; ++k) {
            cvatom[i][k] += energy_unit_ * w[row_major[k]];
        }
    }
}

/// Atoms may have come, gone or moved to another rank since the last evaluation: those it did not
/// see count as average ones.
void PairPetmad::align_kept_edges() {
    double mean = 1.0;
    if (!kept_edges_.empty()) {
        mean = std::accumulate(kept_edges_.begin(), kept_edges_.end(), 0.0)
               / static_cast<double>(kept_edges_.size());
    }
    const size_t n_seen = std::min(kept_edges_.size(), labels_.size());
    kept_edges_.resize(atom->nlocal, mean);
    for (int i = 0; i < atom->nlocal; ++i) {
        const bool is_same =
            static_cast<size_t>(i) < n_seen && atom->tag_enable && labels_[i] == atom->tag[i];
        kept_edges_[i] = is_same ? kept_edges_[i] : mean;
    }
}

/// Other ranks may wait in the exchange: `one` aborts them, where `all` would wait for them.
void PairPetmad::fail_in_compute(const std::string& reason) const {
    if (comm->nprocs == 1) {
        error->all(FLERR, prefix + reason);
    }
    // A launcher may end the job before it has passed on what the aborting rank wrote: the reason
    // goes out beforehand and is given time.
    std::fprintf(stderr, "ERROR on proc %d: %s%s\n", comm->me, prefix, reason.c_str());
    std::fflush(stderr);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    error->one(FLERR, prefix + reason);
}

} // namespace petmad_lammps

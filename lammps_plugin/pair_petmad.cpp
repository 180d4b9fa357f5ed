// SPDX-License-Identifier: GPL-2.0-only
#include "pair_petmad.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include "petmad/devices.h"
#include "petmad/error.h"

#include "node.h"

namespace petmad_lammps {

using namespace LAMMPS_NS;

namespace {

constexpr int64_t text_limit = 4096; // of an error message sent between ranks

} // namespace

PairPetmad::PairPetmad(LAMMPS* lammps) : Pair(lammps) {
    one_coeff = 1;
    manybody_flag = 1;
    single_enable = 0;
    restartinfo = 0;
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_AVAIL;
    comm_forward = 2; // rank and index of a ghost's owner; hybrid copies it right after settings()
}

PairPetmad::~PairPetmad() {
    if (allocated) {
        memory->destroy(setflag);
        memory->destroy(cutsq);
    }
}

/// Runs `work` on all ranks; where it fails on any, all fail with the message of the first that
/// did.
void PairPetmad::together(const std::function<void()>& work) {
    std::string reason;
    try {
        work();
    } catch (const LAMMPSException&) {
        throw;
    } catch (const std::exception& exception) {
        reason = exception.what();
    }
    const int candidate = reason.empty() ? comm->nprocs : comm->me;
    int failed = 0;
    MPI_Allreduce(&candidate, &failed, 1, MPI_INT, MPI_MIN, world);
    if (failed == comm->nprocs) {
        return;
    }
    reason.resize(text_limit);
    MPI_Bcast(reason.data(), static_cast<int>(reason.size()), MPI_CHAR, failed, world);
    error->all(FLERR, prefix + std::string(reason.c_str()));
}

// ---- commands ------------------------------------------------------------------------------

void PairPetmad::settings(int n_arguments, char** arguments) {
    // Nothing of an earlier model stays, nor of one that fails here: LAMMPS may go on in Python.
    // Species of another model mean nothing: pair_coeff must come again.
    engine_.reset();
    transport_.reset();
    species_of_type_.clear();
    try {
        together([&] {
            options_ = parse_pair_options({arguments, arguments + n_arguments});
            mode_ = resolve_mode(options_.mode, comm->nprocs);
            device_ = choose_device(options_.device);
        });
        // Another step: its collective calls come after all ranks have a device.
        together([&] {
            load_model(options_);
            check_energy();
            extras_ = Extras(engine_->info(), options_, world);
        });
    } catch (...) {
        engine_.reset();
        throw;
    }
    nextra = static_cast<int>(extras_.totals.size());
    // A compute pair of an earlier model goes on reading as many: what this one lacks is no number.
    most_extras_ = std::max(most_extras_, extras_.totals.size());
    extras_.totals.resize(most_extras_, std::numeric_limits<double>::quiet_NaN());
    pvector = extras_.totals.data();
    // All flags are set until pair_coeff comes, so that init_style() reports its absence, with the
    // remedy.
    if (atom->ntypes > 0) {
        allocate();
        std::fill_n(setflag[0], (atom->ntypes + 1) * (atom->ntypes + 1), 1);
    }
    // Computes of tensors read the charge, too: a dipole may need an origin.
    const petmad::ModelInfo& info = engine_->info();
    const bool is_read = info.is_conditioned || !info.tensors.empty();
    if (options_.is_conditioned && !is_read && comm->me == 0) {
        error->warning(
            FLERR, std::string(prefix) + "`charge` and `spin` have no effect: model '" + info.name
                       + "' was trained without them"
        );
    }
}

void PairPetmad::load_model(const PairOptions& options) {
    petmad::EngineOptions engine_options;
    engine_options.device = device_;
    engine_options.precision = petmad::parse_precision(options.precision);
    n_threads_ = options.n_threads > 0 ? options.n_threads : comm->nthreads;
    engine_options.n_threads = n_threads_;
    engine_options.check_golden = options.check_golden;
    engine_options.memory = options.memory;
    engine_options.n_processes = share_device();
    engine_options.on_memory = [this](const petmad::MemoryPlan& plan) { report_memory(plan); };
    engine_ = std::make_unique<petmad::Engine>(find_model(options.model), engine_options);
    cutoff_ = engine_->info().cutoff;
    if (comm->nprocs > 1) {
        const bool reads_device =
            options.gpu_aware == "auto" ? mpi_reads_cuda_memory() : options.gpu_aware == "yes";
        transport_ = std::make_unique<MpiTransport>(world, device_ != "cpu" && reads_device);
    }
    tensors_ = {engine_->info().tensors, options.charge, -1, {}};
}

void PairPetmad::check_energy() const {
    const petmad::ModelInfo& info = engine_->info();
    PETMAD_CHECK(
        info.has_energy, "the model '", info.name,
        "' has no energy, so there are no forces in it, only: ", list_tensors(info.tensors),
        "; train it beside an energy (leave `energy_key: null` out of the options), or evaluate it "
        "in Python"
    );
}

std::string PairPetmad::find_model(const std::string& name) const {
    if (platform::file_is_readable(name)) {
        return name;
    }
    const std::string path = utils::get_potential_file_path(name);
    const char* folders = std::getenv("LAMMPS_POTENTIALS");
    PETMAD_CHECK(
        !path.empty(), "cannot read the model file '", name, "'; looked in ",
        platform::current_directory(), " and in LAMMPS_POTENTIALS (",
        folders != nullptr ? folders : "not set",
        "); give the path of a file written by `petmad export`"
    );
    return path;
}

std::string PairPetmad::choose_device(const std::string& wanted) const {
    if (wanted != "auto" && wanted != "cuda") {
        return wanted;
    }
    // Collective, hence before anything in which ranks on different nodes may differ.
    const PlaceInNode place = place_in_node(world);
    const int n_devices = petmad::n_cuda_devices();
    if (n_devices == 0) {
        PETMAD_CHECK(
            wanted == "auto", "`device cuda` was asked for, but torch finds no CUDA device; check "
                              "the driver and that "
                              "a CUDA build of torch is installed, or use `device cpu`"
        );
        return "cpu";
    }
    return "cuda:" + std::to_string(place.rank % n_devices);
}

int PairPetmad::share_device() const {
    const bool on_gpu = device_.rfind("cuda", 0) == 0;
    std::string identity;
    if (on_gpu) {
        try {
            identity = petmad::device_identity(device_);
        } catch (const std::exception&) {
            // a device that is not there is reported when the model is loaded on it
        }
        identity = identity.empty() ? device_ : identity; // its number, where it has no name
    }
    const int n_ranks = count_sharing(world, identity);
    const int on_this_gpu = on_gpu ? n_ranks : 0;
    int most = 0;
    MPI_Allreduce(&on_this_gpu, &most, 1, MPI_INT, MPI_MAX, world);
    if (most > 1 && comm->me == 0) {
        utils::logmesg(
            lmp, "pair_style petmad: {} ranks share a GPU; one rank per GPU is faster\n", most
        );
    }
    return n_ranks;
}

void PairPetmad::coeff(int n_arguments, char** arguments) {
    const std::vector<int32_t> before = species_of_type_;
    together([&] { assign_species(n_arguments, arguments); });
    if (comm->me == 0 && !before.empty() && before != species_of_type_) {
        error->warning(
            FLERR, "pair_style petmad: this `pair_coeff` replaces the elements of all types that "
                   "an earlier one gave; one line has them all"
        );
    }
    allocate();
    for (int i = 1; i <= atom->ntypes; ++i) {
        for (int j = 1; j <= atom->ntypes; ++j) {
            setflag[i][j] = species_of_type_[i] >= 0 && species_of_type_[j] >= 0 ? 1 : 0;
        }
    }
    is_reported_ = false;
    told_warnings_.clear();
    reported_tier_.clear();
}

void PairPetmad::check_model() const {
    PETMAD_CHECK(engine_, "no model is loaded, since `pair_style petmad` failed; correct it first");
}

void PairPetmad::assign_species(int n_arguments, char** arguments) {
    check_model();
    const bool all_types = n_arguments >= 2 && std::strcmp(arguments[0], "*") == 0
                           && std::strcmp(arguments[1], "*") == 0;
    PETMAD_CHECK(all_types, "`pair_coeff` must begin with `* *`, then one element per atom type");
    const std::vector<std::string> names(arguments + 2, arguments + n_arguments);
    const auto species = parse_elements(names, atom->ntypes, engine_->info().atomic_numbers);
    species_of_type_.assign(1, -1);
    species_of_type_.insert(species_of_type_.end(), species.begin(), species.end());
    const auto null = std::find(species.begin(), species.end(), -1);
    PETMAD_CHECK(
        force->pair != this || null == species.end(), "atom type ", null - species.begin() + 1,
        " is NULL, but petmad is the only pair style; name its element, or give the type to "
        "another style under `pair_style hybrid/overlay`"
    );
}

void PairPetmad::allocate() {
    if (allocated) {
        return;
    }
    allocated = 1;
    memory->create(setflag, atom->ntypes + 1, atom->ntypes + 1, "pair:setflag");
    memory->create(cutsq, atom->ntypes + 1, atom->ntypes + 1, "pair:cutsq");
}

// ---- before a run --------------------------------------------------------------------------

void PairPetmad::init_style() {
    together([&] {
        check_units();
        check_settings();
    });
    pair_is_ours_.assign((atom->ntypes + 1) * (atom->ntypes + 1), 0);
    if (recomputes()) {
        comm->cutghostuser = std::max(comm->cutghostuser, ghost_depth());
    }
    is_first_ = true;
    at_start_ = engine_->statistics();
    n_evaluations_ = 0;
    reach_used_ = 0.0;
    if (!is_reported_) {
        report_setup();
        is_reported_ = true;
    }
    report_warnings();
}

void PairPetmad::check_units() {
    const std::string style = update->unit_style;
    PETMAD_CHECK(
        style == "metal" || style == "real",
        "works in `units metal` (eV) or `units real` "
        "(kcal/mol, converted), got `units ",
        style, "`; change the units command"
    );
    energy_unit_ =
        style == "real" ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL) : 1.0;
}

double PairPetmad::init_one(int i, int j) {
    const int n = atom->ntypes + 1;
    pair_is_ours_[i * n + j] = pair_is_ours_[j * n + i] = 1;
    return cutoff_;
}

/// Å around this rank's part of the box that ghosts must reach.
double PairPetmad::ghost_depth() const {
    const double reach = options_.halo > 0.0 ? options_.halo : engine_->info().reach;
    return (recomputes() ? reach : cutoff_) + neighbor->skin;
}

// ---- for others ----------------------------------------------------------------------------

void* PairPetmad::extract(const char* name, int& dimension) {
    dimension = 0;
    if (std::strcmp(name, "uncertainty_flag") == 0 && extras_.has_uncertainty()) {
        return &uncertainty_is_wanted_;
    }
    if (std::strcmp(name, tensor_results_name) == 0 && engine_) {
        return &tensors_;
    }
    return nullptr; // no cutoff, which fix adapt would change
}

/// For fix pair, and for our own computes: `kept_edges` [n_owned], neighbors within the adaptive
/// cutoff at the last evaluation, and `uncertainty` [n_owned].
void* PairPetmad::extract_peratom(const char* name, int& n_columns) {
    n_columns = 0;
    if (std::strcmp(name, "kept_edges") == 0) {
        align_kept_edges();
        return kept_edges_.data();
    }
    const bool is_known = std::strcmp(name, "uncertainty") == 0 && extras_.has_uncertainty();
    return is_known ? extras_.per_atom.data() : nullptr;
}

double PairPetmad::memory_usage() {
    const size_t n_small =
        species_.capacity() + owner_ranks_.capacity() + owner_indices_.capacity();
    return Pair::memory_usage()
           + static_cast<double>(n_small * sizeof(int32_t) + labels_.capacity() * sizeof(int64_t));
}

} // namespace petmad_lammps

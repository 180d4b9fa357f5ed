// SPDX-License-Identifier: GPL-2.0-only
#include "pair_petmad.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "domain.h"
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

namespace petmad_lammps {

using namespace LAMMPS_NS;

namespace {

constexpr int64_t text_limit = 4096; // of an error message sent between ranks

/// The group that `comm_modify group` restricts ghosts to, 0 for all: Comm shows it to heirs alone.
struct BorderGroup : Comm {
    static int of(const Comm& comm) { return comm.*(&BorderGroup::bordergroup); }
};

/// Index of this rank among those of its node, and how many these are. Collective.
std::pair<int, int> place_in_node(MPI_Comm world) {
    MPI_Comm node;
    int rank = 0;
    int n_ranks = 1;
    MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &n_ranks);
    MPI_Comm_free(&node);
    return {rank, n_ranks};
}

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
            load_model(options_);
            check_energy();
            extras_ = Extras(engine_->info(), options_, world);
        });
    } catch (...) {
        engine_.reset();
        throw;
    }
    nextra = static_cast<int>(extras_.totals.size());
    pvector = extras_.totals.data();
    // All flags are set until pair_coeff comes, so that init_style() reports its absence, with the
    // remedy.
    if (atom->ntypes > 0) {
        allocate();
        std::fill_n(setflag[0], (atom->ntypes + 1) * (atom->ntypes + 1), 1);
    }
    if (options_.is_conditioned && !engine_->info().is_conditioned && comm->me == 0) {
        error->warning(
            FLERR, std::string(prefix) + "`charge` and `spin` have no effect: model '"
                       + engine_->info().name + "' was trained without them"
        );
    }
}

void PairPetmad::load_model(const PairOptions& options) {
    petmad::EngineOptions engine_options;
    device_ = engine_options.device = choose_device(options.device);
    engine_options.precision = petmad::parse_precision(options.precision);
    n_threads_ = options.n_threads > 0 ? options.n_threads : comm->nthreads;
    engine_options.n_threads = n_threads_;
    engine_options.check_golden = options.check_golden;
    engine_options.memory = options.memory;
    const int n_local_ranks = place_in_node(world).second;
    const int n_gpus = device_ == "cpu" ? 0 : petmad::n_cuda_devices();
    engine_options.n_processes = n_gpus > 0 ? (n_local_ranks + n_gpus - 1) / n_gpus : n_local_ranks;
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

/// Before the layers run for the first time, and when the tier changes.
void PairPetmad::report_memory(const petmad::MemoryPlan& plan) {
    const std::string tier = to_string(plan.tier);
    if (comm->me == 0 && tier != reported_tier_) {
        const char* whose = comm->nprocs > 1 ? "  rank 0, " : "  ";
        utils::logmesg(lmp, whose + petmad::describe(plan) + "\n");
    }
    reported_tier_ = tier;
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
    const auto [local_rank, n_local_ranks] = place_in_node(world);
    const int n_devices = petmad::n_cuda_devices();
    if (n_devices == 0) {
        PETMAD_CHECK(
            wanted == "auto", "`device cuda` was asked for, but torch finds no CUDA device; check "
                              "the driver and that "
                              "a CUDA build of torch is installed, or use `device cpu`"
        );
        return "cpu";
    }
    if (n_local_ranks > n_devices && local_rank == 0) {
        utils::logmesg(
            lmp,
            "pair_style petmad: {} ranks of a node share {} GPU(s); one rank per GPU is "
            "faster\n",
            n_local_ranks, n_devices
        );
    }
    return "cuda:" + std::to_string(local_rank % n_devices);
}

void PairPetmad::coeff(int n_arguments, char** arguments) {
    together([&] { assign_species(n_arguments, arguments); });
    allocate();
    for (int i = 1; i <= atom->ntypes; ++i) {
        for (int j = 1; j <= atom->ntypes; ++j) {
            setflag[i][j] = species_of_type_[i] >= 0 && species_of_type_[j] >= 0 ? 1 : 0;
        }
    }
    is_reported_ = false;
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
    if (!is_reported_) {
        report_setup();
        is_reported_ = true;
    }
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

void PairPetmad::check_settings() const {
    check_model();
    PETMAD_CHECK(
        !species_of_type_.empty(), "the atom types have no elements; after `pair_style petmad` "
                                   "write `pair_coeff * *` with one element per type"
    );
    PETMAD_CHECK(
        force->newton_pair, "needs `newton on`, since forces on ghost atoms must be sent home; "
                            "remove `newton off` (the pair part) from the input"
    );
    check_exclusions();
    PETMAD_CHECK(
        !recomputes() || comm->mode == Comm::SINGLE,
        "`mode recompute` needs ghosts of all types "
        "equally deep; remove `comm_modify mode multi`, or use `mode exchange`"
    );
    check_tiles();
    PETMAD_CHECK(
        neighbor->includegroup == 0, "`neigh_modify include` cannot leave atoms out of a many-body "
                                     "model; remove it"
    );
    PETMAD_CHECK(
        BorderGroup::of(*comm) == 0, "`comm_modify group` leaves ghosts out that a many-body model "
                                     "needs; remove it"
    );
}

/// Whole atoms can be left out, by a group excluded from `all` (fix gcmc does so to try a deletion,
/// from its own init() on), but not some of their pairs.
void PairPetmad::check_exclusions() const {
    bool excludes = neighbor->nex_mol > 0;
    for (int k = 0; k < neighbor->nex_group; ++k) {
        excludes = excludes || (neighbor->ex1_group[k] != 0 && neighbor->ex2_group[k] != 0);
    }
    for (int k = 0; k < neighbor->nex_type; ++k) {
        excludes = excludes
                   || (species_of_type_[neighbor->ex1_type[k]] >= 0
                       && species_of_type_[neighbor->ex2_type[k]] >= 0);
    }
    PETMAD_CHECK(
        !excludes, "`neigh_modify exclude` cannot take pairs out of a many-body model; remove it, "
                   "or map the types to NULL and use `pair_style hybrid/overlay`"
    );
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

/// Bits of the groups whose atoms take no part, since they are excluded from `all`, group 0.
int PairPetmad::excluded_groups() const {
    int bits = 0;
    for (int k = 0; k < neighbor->nex_group; ++k) {
        bits |= neighbor->ex1_group[k] == 0 ? neighbor->ex2_bit[k] : neighbor->ex1_bit[k];
    }
    return bits;
}

/// comm_style tiled holds no more than one image of an atom on either side.
void PairPetmad::check_tiles() const {
    if (!recomputes() || comm->style != Comm::TILED) {
        return;
    }
    const Domain& box = *Pointers::domain;
    for (int k = 0; k < 3; ++k) {
        PETMAD_CHECK(
            box.periodicity[k] == 0 || box.prd[k] > ghost_depth(), "`mode recompute` needs ghosts ",
            ghost_depth(), " A deep, but the periodic box is ", box.prd[k],
            " A long and `comm_style tiled` allows no more; use `comm_style brick`, or `mode "
            "exchange`"
        );
    }
}

void PairPetmad::report_setup() {
    if (comm->me != 0) {
        return;
    }
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
        lmp, describe_setup(engine_->info(), setup) + extras_.describe() + describe_types(types)
    );
    for (const std::string& warning : mass_warnings(types)) {
        error->warning(FLERR, warning);
    }
    const auto differs = [](double factor) { return factor != 1.0; };
    if (atom->molecular != Atom::ATOMIC
        && (std::any_of(force->special_lj + 1, force->special_lj + 4, differs)
            || std::any_of(force->special_coul + 1, force->special_coul + 4, differs))) {
        utils::logmesg(
            lmp, "  note: special_bonds does not act on petmad, bonded pairs are kept\n"
        );
    }
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

/// `hybrid` asks init_one only for the pairs it leaves to this style.
void PairPetmad::check_hybrid() const {
    const int n = atom->ntypes + 1;
    for (int i = 1; i < n; ++i) {
        for (int j = i; j < n; ++j) {
            const bool is_mapped = species_of_type_[i] >= 0 && species_of_type_[j] >= 0;
            PETMAD_CHECK(
                !is_mapped || pair_is_ours_[i * n + j], "atom types ", i, " and ", j,
                " have elements here, but the hybrid style gives their pairs to another style; a "
                "many-body model needs all pairs of its types: use `pair_style hybrid/overlay`, or "
                "map the types to NULL"
            );
        }
    }
}

// ---- after a run ---------------------------------------------------------------------------

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
        now.reach_used,
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
        RunTotals totals{largest[0], largest[1], largest[2], largest[3],
                         largest[4], largest[5], largest[6], ghost_depth() - neighbor->skin,
                         sums[0],    sums[1],    sums[2],    sums[3],
                         sums[4],    sums[5],    sums[6],    sums[7],
                         sums[8]};
        totals.recomputes = recomputes();
        totals.n_ranks = comm->nprocs;
        totals.side = std::cbrt(box.xprd * box.yprd * box.zprd / comm->nprocs);
        utils::logmesg(lmp, describe_totals(totals));
    }
}

void* PairPetmad::extract(const char* name, int& dimension) {
    dimension = 0;
    if (std::strcmp(name, "uncertainty_flag") == 0 && extras_.has_uncertainty()) {
        return &uncertainty_is_wanted_;
    }
    if (std::strcmp(name, tensor_results_name) == 0 && engine_) {
        return &tensors_;
    }
    return std::strcmp(name, "cutoff") == 0 ? &cutoff_ : nullptr;
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

// pair_style petmad: hands atoms and ghosts to the core's Engine and adds its results back.
//
// It uses no neighbor list of LAMMPS: the core builds its own from owned and ghost atoms, so that
// special_bonds cannot drop bonded pairs and every edge finds its reversed one.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "pair.h"

#include "extras.h"
#include "ghost_distances.h"
#include "mpi_transport.h"
#include "pair_options.h"
#include "petmad/engine.h"
#include "report.h"
#include "tensor_results.h"

namespace petmad_lammps {

class PairPetmad final : public LAMMPS_NS::Pair {
public:
    explicit PairPetmad(LAMMPS_NS::LAMMPS* lmp);
    ~PairPetmad() override;

    void settings(int n_arguments, char** arguments) override;
    void coeff(int n_arguments, char** arguments) override;
    void init_style() override;
    double init_one(int i, int j) override;
    void compute(int eflag, int vflag) override;
    void finish() override;

    void* extract(const char* name, int& dimension) override;
    void* extract_peratom(const char* name, int& n_columns) override;
    double memory_usage() override;
    int pack_forward_comm(int n, int* atoms, double* buffer, int pbc_flag, int* pbc) override;
    void unpack_forward_comm(int n, int first, double* buffer) override;

private:
    static constexpr const char* prefix = "pair_style petmad: ";

    void together(const std::function<void()>& work);

    void load_model(const PairOptions& options);
    void report_memory(const petmad::MemoryPlan& plan);
    void check_energy() const;
    std::string find_model(const std::string& name) const;
    std::string choose_device(const std::string& wanted) const;
    int share_device() const;
    void assign_species(int n_arguments, char** arguments);
    void check_units();
    void check_settings() const;
    void check_model() const;
    void check_exclusions() const;
    void report_exclusions();
    void report_warnings();
    std::vector<TypeEntry> type_entries() const;
    std::vector<int> exclusions() const;
    int excluded_groups() const;
    void check_hybrid() const;
    void check_tiles() const;
    void report_setup();
    void allocate();

    bool recomputes() const { return mode_ == "recompute"; }
    double ghost_depth() const;
    bool atoms_changed();
    void refresh_ghosts();
    void refresh_owners();
    void align_kept_edges();
    petmad::DomainView domain(bool changed) const;
    petmad::Requests requests() const;
    void add_results(const petmad::Results& results);
    void add_forces(const petmad::Results& results);
    void add_atomic_virials(const petmad::Results& results);
    [[noreturn]] void fail_in_compute(const std::string& reason) const;

    PairOptions options_;
    std::string device_;
    std::string mode_; ///< images, exchange or recompute
    int n_threads_ = 1;
    double cutoff_ = 0.0;      ///< Å
    double energy_unit_ = 1.0; ///< LAMMPS's energy unit per eV
    std::unique_ptr<petmad::Engine> engine_;
    std::unique_ptr<MpiTransport> transport_; ///< none on one rank

    Extras extras_;                 ///< direct forces, uncertainties
    size_t most_extras_ = 0;        ///< numbers behind pvector, of all models so far
    std::vector<int> exclusions_;   ///< that were checked
    TensorResults tensors_;         ///< for compute petmad/tensor
    int uncertainty_is_wanted_ = 0; ///< set by fix pair before the step

    std::vector<int32_t> species_of_type_; ///< [n_types + 1], -1 for NULL
    std::vector<char> pair_is_ours_;       ///< [(n_types + 1)²], filled by init_one
    bool is_reported_ = false;
    std::set<std::string> told_warnings_; ///< since pair_coeff
    bool exclusions_are_reported_ = false;
    std::string reported_tier_; ///< of memory; empty before the first step

    bool is_first_ = true; ///< no evaluation yet since init_style
    struct {
        int64_t count = -1;
        int64_t step = -1;
    } list_build_;                 ///< LAMMPS's last one at the last evaluation
    int n_ghosts_ = 0;             ///< then
    double skin_of_list_ = 0.0;    ///< Å; `neighbor` may change it before `run N pre no`
    std::vector<int32_t> species_; ///< [n_total], as are the following
    std::vector<int32_t> owner_ranks_;
    std::vector<int32_t> owner_indices_;
    BoxPart box_part_;                    ///< where ghosts are recomputed, as is the following
    std::vector<double> ghost_distances_; ///< Å from box_part_
    std::vector<int64_t> labels_;         ///< atom IDs, for messages; empty where there are none
    std::vector<double> kept_edges_;      ///< [n_owned] as handed out by extract_peratom

    petmad::Statistics at_start_; ///< of this run
    int64_t n_evaluations_ = 0;
    double reach_used_ = 0.0; ///< Å, largest of this run and rank
};

} // namespace petmad_lammps

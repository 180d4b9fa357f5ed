// What `forces direct` and `uncertainty yes` ask of a model, and what becomes of its answer.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <mpi.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "pair_options.h"
#include "petmad/types.h"

namespace petmad_lammps {

/// Direct heads and uncertainties of one model, as the input script asks for them.
class Extras {
public:
    Extras() = default;
    /// Throws petmad::Error: the model lacks what the options name.
    Extras(const petmad::ModelInfo& info, const PairOptions& options, MPI_Comm world);

    bool is_direct() const { return is_direct_; }
    /// Whether pressures come from a direct head too; if not, from the gradient of the energy.
    bool has_direct_stress() const { return has_direct_stress_; }
    bool has_uncertainty() const { return has_uncertainty_; }
    /// Lines of the log; empty without options.
    std::string describe() const;

    /// Outputs to ask the engine for; `is_tallied`: uncertainties are wanted in this step.
    std::vector<std::string> requests(bool is_tallied) const;
    /// Forces of the direct head minus their mean over all ranks, [n_owned, 3] eV/Å; zeros for
    /// atoms that are not the model's (species -1). Collective.
    std::vector<double>
    forces(const petmad::Results& results, const std::vector<int32_t>& species) const;
    /// Virial [3, 3] eV of this rank's atoms by the direct head.
    std::array<double, 9> virial(const petmad::Results& results) const;
    /// Keeps the uncertainties of this step, times `unit`. Collective.
    void store_uncertainty(const petmad::Results& results, double unit);

    /// For compute pair, which sums over ranks: total uncertainty on rank 0, then each member of
    /// the ensemble, this rank's share; more entries, if the pair style adds them, stay.
    std::vector<double> totals;
    /// For fix pair: [n_owned] and at least one entry, so that its address is never null.
    std::vector<double> per_atom = {0.0};

private:
    MPI_Comm world_ = MPI_COMM_NULL;
    bool is_direct_ = false;
    bool has_direct_stress_ = false;
    bool has_uncertainty_ = false;
    bool has_ensemble_ = false;
    int64_t n_members_ = 0; ///< of the ensemble
};

} // namespace petmad_lammps

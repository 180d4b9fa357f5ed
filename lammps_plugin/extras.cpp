// SPDX-License-Identifier: GPL-2.0-only
#include "extras.h"

#include <algorithm>

#include "petmad/error.h"

namespace petmad_lammps {

namespace {

constexpr const char* direct_force = "non_conservative_force";
constexpr const char* direct_stress = "non_conservative_stress";
constexpr const char* uncertainty = "energy_uncertainty";
constexpr const char* ensemble = "energy_ensemble";

} // namespace

Extras::Extras(const petmad::ModelInfo& info, const PairOptions& options, MPI_Comm world)
    : world_(world) {
    const auto has = [&](const char* name) {
        return std::find(info.outputs.begin(), info.outputs.end(), name) != info.outputs.end();
    };
    PETMAD_CHECK(
        !options.direct_forces || has(direct_force),
        "`forces direct` needs a model with direct "
        "forces, but '",
        info.name, "' has no output ", direct_force, "; convert it with `--keep ", direct_force,
        "`, or use `forces gradient`"
    );
    PETMAD_CHECK(
        !options.uncertainty || has(uncertainty), "`uncertainty yes` needs a model with ",
        "uncertainties (LLPR), but '", info.name, "' has no output ", uncertainty,
        "; use `uncertainty no`"
    );
    is_direct_ = options.direct_forces;
    has_direct_stress_ = is_direct_ && has(direct_stress);
    has_uncertainty_ = options.uncertainty;
    has_ensemble_ = has_uncertainty_ && has(ensemble);
    if (has_uncertainty_) {
        n_members_ = has_ensemble_ ? info.n_members : 0;
        totals.assign(1 + n_members_, 0.0);
    }
}

std::string Extras::describe() const {
    std::string text;
    if (is_direct_) {
        text += std::string(
                    "  forces: direct (not the gradient of the energy, which is not "
                    "conserved), mean removed; pressure: "
                )
                + (has_direct_stress_ ? "direct" : "gradient of the energy") + "\n";
    }
    if (has_uncertainty_) {
        text += "  uncertainty: computed when energies are tallied";
        if (has_ensemble_) {
            text += ", with an ensemble of " + std::to_string(n_members_) + " members";
        }
        text += "\n";
    }
    return text;
}

std::vector<std::string> Extras::requests(bool is_tallied) const {
    std::vector<std::string> names;
    if (is_direct_) {
        names.emplace_back(direct_force);
    }
    if (has_direct_stress_) {
        names.emplace_back(direct_stress);
    }
    if (has_uncertainty_ && is_tallied) {
        names.emplace_back(uncertainty);
        if (has_ensemble_) {
            names.emplace_back(ensemble);
        }
    }
    return names;
}

std::vector<double>
Extras::forces(const petmad::Results& results, const std::vector<int32_t>& species) const {
    const petmad::Output& direct = results.outputs.at(direct_force);
    const size_t n_owned = direct.atoms.size() / 3;
    double sums[4] = {direct.sum[0], direct.sum[1], direct.sum[2], 0.0};
    sums[3] = static_cast<double>(
        std::count_if(species.begin(), species.begin() + n_owned, [](int32_t s) { return s >= 0; })
    );
    MPI_Allreduce(MPI_IN_PLACE, sums, 4, MPI_DOUBLE, MPI_SUM, world_);
    std::vector<double> forces = direct.atoms;
    for (size_t k = 0; k < forces.size(); ++k) {
        if (species[k / 3] >= 0) {
            forces[k] -= sums[k % 3] / sums[3];
        }
    }
    return forces;
}

std::array<double, 9> Extras::virial(const petmad::Results& results) const {
    const std::vector<double>& stress_times_volume = results.outputs.at(direct_stress).sum;
    std::array<double, 9> virial{};
    std::transform(
        stress_times_volume.begin(), stress_times_volume.end(), virial.begin(),
        [](double value) { return -value; }
    );
    return virial;
}

void Extras::store_uncertainty(const petmad::Results& results, double unit) {
    const auto scaled = [unit](double value) { return unit * value; };
    const petmad::Output& output = results.outputs.at(uncertainty);
    per_atom.assign(std::max<size_t>(output.atoms.size(), 1), 0.0);
    std::transform(output.atoms.begin(), output.atoms.end(), per_atom.begin(), scaled);
    std::vector<double> sum = output.sum;
    MPI_Allreduce(
        MPI_IN_PLACE, sum.data(), static_cast<int>(sum.size()), MPI_DOUBLE, MPI_SUM, world_
    );
    int rank = 0;
    MPI_Comm_rank(world_, &rank);
    totals[0] = rank == 0 ? unit * petmad::whole(output, sum)[0] : 0.0;
    if (has_ensemble_) {
        const std::vector<double>& members = results.outputs.at(ensemble).sum;
        std::transform(members.begin(), members.end(), totals.begin() + 1, scaled);
    }
}

} // namespace petmad_lammps

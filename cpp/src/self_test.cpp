// The self test of a model file.
#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace petmad {
namespace {

double largest(const std::vector<double>& values) {
    double result = 0.0;
    for (const double value : values) {
        result = std::max(result, std::abs(value));
    }
    return result;
}

/// Largest difference; infinite where one is not a number, so that it passes no comparison.
double deviation(const double* found, const std::vector<double>& wanted) {
    double result = 0.0;
    for (size_t k = 0; k < wanted.size(); ++k) {
        const double difference = std::abs(found[k] - wanted[k]);
        result = std::isnan(difference) ? INFINITY : std::max(result, difference);
    }
    return result;
}

double deviation_from(const Golden& golden, const Results& found) {
    double worst = 0.0;
    if (golden.has_energy) {
        const double error = std::max(
            {deviation(&found.energy, {golden.energy}),
             deviation(found.atomic_energies.data(), golden.atomic_energies),
             deviation(found.forces.data(), golden.forces),
             deviation(found.virial.data(), golden.virial)}
        );
        worst = error / largest(golden.forces);
    }
    for (const auto& [name, wanted] : golden.tensors) {
        const double scale = std::max(largest(wanted), std::numeric_limits<double>::min());
        worst = std::max(worst, deviation(found.outputs.at(name).atoms.data(), wanted) / scale);
    }
    return worst;
}

System system_of(const Golden& golden) {
    System system;
    system.n_atoms = golden.n_atoms;
    system.positions = golden.positions.data();
    system.species = golden.species.data();
    system.cell = golden.cell;
    system.pbc = golden.pbc;
    system.charge = golden.charge;
    system.spin_multiplicity = golden.spin_multiplicity;
    return system;
}

} // namespace

double largest_deviation(const std::vector<Golden>& structures, const Evaluate& evaluate) {
    double worst = 0.0;
    for (const Golden& golden : structures) {
        Requests requests;
        for (const auto& [name, rows] : golden.tensors) {
            requests.outputs.push_back(name);
        }
        const Results& found = evaluate(system_of(golden), requests);
        worst = std::max(worst, deviation_from(golden, found));
    }
    return worst;
}

// Sums in another order differ by 1e-13 in float64 and 1e-5 in float32, a wrong weight or species
// by more than 1e-2.
double self_test_tolerance(const std::string& dtype) { return dtype == "float64" ? 1e-9 : 1e-3; }

} // namespace petmad

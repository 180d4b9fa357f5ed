// Edges of a whole system, and the checks of atoms it shares with domains.
#include <cmath>

#include <torch/types.h>

#include "petmad/edges.h"
#include "petmad/error.h"
#include "petmad/neighbor_list.h"
#include "step_edges.h"

namespace petmad {
namespace {

// Å. Real atoms never come this near; the network has no meaning there, and a unit error or a
// doubled atom is the likely cause.
constexpr double least_distance = 0.01;

int64_t label(int64_t atom, const int64_t* labels) { return labels ? labels[atom] : atom; }

torch::Tensor view(const double* data, std::vector<int64_t> shape) {
    return torch::from_blob(const_cast<double*>(data), shape, torch::kFloat64);
}

std::vector<int64_t> to_vector(const torch::Tensor& tensor) {
    const auto* values = tensor.const_data_ptr<int64_t>();
    return {values, values + tensor.numel()};
}

} // namespace

void check_apart(double squared_distance, int64_t a, int64_t b, const int64_t* labels) {
    PETMAD_CHECK(
        squared_distance >= least_distance * least_distance, "atoms ", label(a, labels), " and ",
        label(b, labels), " are ", std::sqrt(squared_distance), " Å apart, nearer than ",
        least_distance, " Å; remove overlapping atoms, and check units and cell"
    );
}

void check_positions(
    const double* positions, const int32_t* species, int64_t n_atoms, const int64_t* labels
) {
    for (int64_t i = 0; i < n_atoms; ++i) {
        const double* x = positions + 3 * i;
        PETMAD_CHECK(
            species[i] < 0 || (std::isfinite(x[0]) && std::isfinite(x[1]) && std::isfinite(x[2])),
            "position of atom ", label(i, labels), " is (", x[0], ", ", x[1], ", ", x[2],
            "); it must be finite: look for a time step that is too long or overlapping atoms"
        );
    }
}

StepEdges system_edges(const System& system, double cutoff, int64_t n_species) {
    const int64_t n_atoms = system.n_atoms;
    StepEdges edges;
    for (int64_t i = 0; i < n_atoms; ++i) {
        PETMAD_CHECK(
            system.species[i] >= 0 && system.species[i] < n_species, "`species` of atom ", i,
            " is ", system.species[i], " but the model has species 0 to ", n_species - 1,
            "; map elements to the model's species first"
        );
        edges.owned_atoms.push_back(i);
        edges.species.push_back(system.species[i]);
    }
    check_positions(system.positions, system.species, n_atoms, nullptr);
    const torch::Tensor positions = view(system.positions, {n_atoms, 3});
    const torch::Tensor cell = view(system.cell.data(), {3, 3});
    torch::Tensor pbc = torch::empty({3}, torch::kBool);
    std::copy(system.pbc.begin(), system.pbc.end(), pbc.mutable_data_ptr<bool>());

    const NeighborList list = build_neighbor_list(positions, cell, pbc, cutoff);
    const torch::Tensor vectors = edge_vectors(positions, cell, list);
    const auto* values = vectors.const_data_ptr<double>();
    edges.vectors.assign(values, values + vectors.numel());
    edges.centers = edges.center_atoms = to_vector(list.centers);
    edges.neighbors = edges.neighbor_atoms = to_vector(list.neighbors);
    edges.reverse = to_vector(reverse_edges_of_whole(list, n_atoms));
    for (int64_t e = 0; e < edges.size(); ++e) {
        const double* v = values + 3 * e;
        const double squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        check_apart(squared, edges.centers[e], edges.neighbors[e], nullptr);
    }
    return edges;
}

} // namespace petmad

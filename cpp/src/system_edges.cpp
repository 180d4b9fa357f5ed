// Edges of a whole system, and the checks of atoms it shares with domains.
#include <algorithm>
#include <cmath>

#include <torch/types.h>

#include "geometry.h"
#include "list_arguments.h"
#include "petmad/edges.h"
#include "petmad/error.h"
#include "petmad/neighbor_list.h"
#include "step_edges.h"

namespace petmad {
namespace {

// Å. Real atoms never come this near; the network has no meaning there, and a unit error or a
// doubled atom is the likely cause.
constexpr double least_distance = 0.01;

// Nearly thirty times the density of water, within 12 Å.
constexpr int64_t most_edges_per_atom = 20000;

int64_t label(int64_t atom, const int64_t* labels) { return labels ? labels[atom] : atom; }

/// Of the host's memory.
torch::Tensor view(const double* data, std::vector<int64_t> shape) {
    return torch::from_blob(const_cast<double*>(data), shape, torch::kFloat64);
}

torch::Tensor periodicity(const System& system) {
    torch::Tensor pbc = torch::empty({3}, torch::kBool);
    std::copy(system.pbc.begin(), system.pbc.end(), pbc.mutable_data_ptr<bool>());
    return pbc;
}

/// The rows of open directions mean nothing, and are left out.
torch::Tensor cell_of(const System& system) {
    torch::Tensor cell = torch::zeros({3, 3}, torch::kFloat64);
    for (size_t k = 0; k < 3; ++k) {
        if (system.pbc[k]) {
            std::copy_n(system.cell.data() + 3 * k, 3, cell.mutable_data_ptr<double>() + 3 * k);
        }
    }
    return cell;
}

/// Before hours and all memory go into the list of a cell in nm.
void check_density(const System& system, double cutoff) {
    const auto& c = system.cell;
    const double volume =
        std::abs(dot({c[0], c[1], c[2]}, cross({c[3], c[4], c[5]}, {c[6], c[7], c[8]})));
    if (system.pbc[0] && system.pbc[1] && system.pbc[2] && volume > 0.0) {
        const auto n_atoms = static_cast<double>(system.n_atoms);
        const double sphere = 4.0 / 3.0 * M_PI * cutoff * cutoff * cutoff;
        const double n_edges = n_atoms * n_atoms * sphere / volume;
        check_crowding(static_cast<int64_t>(std::min(n_edges, 1e18)), system.n_atoms, cutoff);
    }
}

/// Every atom is a node. Throws Error: unknown species, positions that are not finite.
StepEdges number_atoms(const System& system, int64_t n_species) {
    StepEdges edges;
    edges.species = torch::empty({system.n_atoms}, torch::kInt64);
    auto* species = edges.species.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < system.n_atoms; ++i) {
        PETMAD_CHECK(
            system.species[i] >= 0 && system.species[i] < n_species, "`species` of atom ", i,
            " is ", system.species[i], " but the model has species 0 to ", n_species - 1,
            "; map elements to the model's species first"
        );
        edges.owned_atoms.push_back(i);
        species[i] = system.species[i];
    }
    check_positions(system.positions, system.species, system.n_atoms, nullptr);
    return edges;
}

/// Nodes are atoms, and no edge is beyond the cutoff.
void take_list(StepEdges& edges, const NeighborList& list) {
    edges.centers = edges.center_atoms = list.centers;
    edges.neighbors = edges.neighbor_atoms = list.neighbors;
    edges.n_within = edges.size();
}

} // namespace

void check_apart(double squared_distance, int64_t a, int64_t b, const int64_t* labels) {
    PETMAD_CHECK(
        squared_distance >= least_distance * least_distance, "atoms ", label(a, labels), " and ",
        label(b, labels), " are ", std::sqrt(squared_distance), " Å apart, nearer than ",
        least_distance,
        " Å; remove overlapping atoms, and check units and cell (LAMMPS: fix gcmc "
        "needs `overlap_cutoff`, to reject such trials)"
    );
}

void check_crowding(int64_t n_edges, int64_t n_centers, double reach) {
    PETMAD_CHECK(
        n_edges <= most_edges_per_atom * std::max<int64_t>(n_centers, 1), "atoms have ",
        n_edges / std::max<int64_t>(n_centers, 1), " neighbors within ", reach,
        " Å on average, more than ", most_edges_per_atom,
        ": the cell has collapsed, or is in another unit; check cell, barostat and time step"
    );
}

void check_positions(
    const double* positions, const int32_t* species, int64_t n_atoms, const int64_t* labels
) {
    for (int64_t i = 0; i < n_atoms; ++i) {
        if (species[i] >= 0) {
            check_position(positions + 3 * i, label(i, labels));
        }
    }
}

torch::Tensor squared_lengths(const StepEdges& edges) { return edges.vectors.square().sum(1); }

void check_all_apart(const StepEdges& edges, const torch::Tensor& squares, const int64_t* labels) {
    if (edges.size() == 0) {
        return;
    }
    const torch::Tensor nearest = squares.argmin();
    const auto squared = squares.index({nearest}).item<double>();
    if (!(squared >= least_distance * least_distance)) {
        check_apart(
            squared, edges.center_atoms.index({nearest}).item<int64_t>(),
            edges.neighbor_atoms.index({nearest}).item<int64_t>(), labels
        );
    }
}

StepEdges system_edges(const System& system, double cutoff, int64_t n_species) {
    StepEdges edges = number_atoms(system, n_species);
    const torch::Tensor positions = view(system.positions, {system.n_atoms, 3});
    const torch::Tensor cell = cell_of(system);
    check_density(system, cutoff);
    const NeighborList list = build_neighbor_list(positions, cell, periodicity(system), cutoff);
    check_crowding(list.centers.numel(), system.n_atoms, cutoff);
    take_list(edges, list);
    edges.vectors = edge_vectors(positions, cell, list);
    edges.reverse = reverse_edges_of_whole(list, system.n_atoms);
    const auto* v = edges.vectors.const_data_ptr<double>();
    const auto* i = list.centers.const_data_ptr<int64_t>();
    const auto* j = list.neighbors.const_data_ptr<int64_t>();
    for (int64_t e = 0; e < edges.size(); ++e, v += 3) {
        check_apart(v[0] * v[0] + v[1] * v[1] + v[2] * v[2], i[e], j[e], nullptr);
    }
    return edges;
}

StepEdges
system_edges_on(torch::Device device, const System& system, double cutoff, int64_t n_species) {
    StepEdges edges = number_atoms(system, n_species);
    edges.species = edges.species.to(device);
    const torch::Tensor positions = view(system.positions, {system.n_atoms, 3}).to(device);
    const torch::Tensor cell = cell_of(system);
    check_density(system, cutoff);
    const NeighborList list = cuda::build_list(positions, cell, periodicity(system), cutoff, -1);
    check_crowding(list.centers.numel(), system.n_atoms, cutoff);
    take_list(edges, list);
    edges.vectors = cuda::list_vectors(positions, cell, list);
    edges.reverse = cuda::reverse_list(list);
    edges.incidence = cuda::incidence_of(list.centers, list.neighbors, system.n_atoms);
    check_all_apart(edges, squared_lengths(edges), nullptr);
    return edges;
}

} // namespace petmad

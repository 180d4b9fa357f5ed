// Plain structs that cross the core's boundary: no torch, no LAMMPS, no Python.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "petmad/outputs.h"

namespace petmad {

/// A whole system with its cell. Views only: the caller keeps the arrays alive during the call.
struct System {
    int64_t n_atoms = 0;
    const double* positions = nullptr; ///< [n_atoms, 3] Å
    const int32_t* species = nullptr;  ///< [n_atoms] the model's dense index from 0
    std::array<double, 9> cell{};      ///< [3, 3] Å, lattice vectors as rows
    std::array<bool, 3> pbc{};         ///< periodic along each lattice vector
    int charge = 0;                    ///< total charge [e], read by conditioned models
    int spin_multiplicity = 1;         ///< 2S + 1, likewise
};

/// What becomes of ghosts.
enum class GhostMode {
    exchange,  ///< one cutoff deep. Images are folded onto the owned atom they copy; what only the
               ///< owner of another rank's atom knows comes in messages
    recompute, ///< as deep as the reach, and evaluated here again as far as they matter
};

/// What one rank of a domain decomposition holds: its own atoms, then ghosts.
/// Ghost positions already carry their periodic image.
struct DomainView {
    int64_t n_owned = 0;
    int64_t n_total = 0;               ///< owned + ghosts
    const double* positions = nullptr; ///< [n_total, 3] Å
    const int32_t* species = nullptr;  ///< [n_total]; -1 marks an atom this model shall not touch
    const int32_t* ghost_ranks = nullptr; ///< [n_total - n_owned] rank that owns each ghost
    const int32_t* ghost_owners =
        nullptr;                          ///< [n_total - n_owned] its index among that rank's owned
    const int64_t* labels = nullptr;      ///< [n_total] names of the atoms in messages; may be null
    GhostMode mode = GhostMode::exchange; ///< equal on all ranks; ranks and owners of ghosts serve
                                          ///< the exchange alone
    double ghost_depth = 0.0; ///< recompute: Å around the domain within which no ghost is missing
    const double* ghost_distances =
        nullptr;               ///< recompute: [n_total - n_owned] Å of each, now, from the domain
                               ///< as it was when atoms_changed was set
    bool atoms_changed = true; ///< atoms, order, ghosts or owners differ from the last call
    double skin = 0.0;         ///< Å beyond the cutoff that the ghosts reach; the list is
                               ///< built to cutoff + skin and reused until atoms_changed
    int charge = 0;
    int spin_multiplicity = 1;
};

/// What an evaluation shall produce beside the energy.
/// All ranks must ask for the same.
struct Requests {
    bool forces = true; ///< gradients are left out where the model has no energy
    bool virial = true;
    bool atomic_virials = false;
    std::vector<std::string> outputs; ///< further predictions, of ModelInfo::outputs
};

/// One evaluation. Forces on ghosts are the host program's to send home.
/// Of a model without energy only the kept edges and the outputs mean anything: its energy is not
/// a number, its atomic energies and forces are empty.
struct Results {
    double energy = 0.0;                 ///< eV, sum over owned atoms
    std::vector<double> atomic_energies; ///< [n_owned] eV
    std::vector<double> forces;          ///< [n_total, 3] eV/Å
    std::array<double, 9> virial{};      ///< [3, 3] eV, -∂E/∂strain, symmetrised; this rank's edges
    std::vector<double> atomic_virials;  ///< [n_total, 3, 3] eV, half of each edge to either end
    std::vector<double> kept_edges;      ///< [n_owned] edges within the adaptive cutoff: the work
    Outputs outputs;                     ///< those asked for, by name
};

/// Sizes and times of the last evaluation, and bytes moved.
struct Statistics {
    int64_t n_owned = 0;
    int64_t n_ghost = 0;
    int64_t n_raw_edges = 0;       ///< of owned atoms, within the cutoff
    int64_t n_kept_edges = 0;      ///< after the adaptive cutoff
    int64_t n_crossing_edges = 0;  ///< kept edges whose reversed edge lives on another rank
    int64_t n_evaluated_edges = 0; ///< rows of edges, summed over GNN layers; ghosts included
    int64_t n_owned_edge_rows = 0; ///< of them those of owned atoms: kept edges times GNN layers
    double reach_used = 0.0;       ///< Å around the domain of what its owned atoms depend on
    int64_t bytes_sent = 0;        ///< by this rank, messages of this evaluation
    int64_t bytes_messages = 0;    ///< of them messages of edges and their adjoints
    int64_t bytes_values = 0;      ///< of them adaptive cutoffs of ghosts and their adjoints
    int64_t n_list_builds = 0;     ///< since construction
    double seconds_list = 0.0;     ///< summed since construction, as are the following
    double seconds_exchange = 0.0;
    double seconds_model = 0.0; ///< forward and backward, exchange excluded
    double seconds_fold = 0.0;
};

/// A tensor target: an output whose rows turn with the atoms.
struct TensorInfo {
    std::string name;
    std::string kind;      ///< scalar, vector, axial_vector, symmetric, matrix or spherical
    std::string unit;      ///< of its entries, as the training options gave it
    std::string origin;    ///< that a charged structure's vector refers to; empty: not recorded
    int64_t n_entries = 0; ///< 3 for xyz, 9 for matrices row by row, 2λ + 1 from -λ to λ
    bool per_atom = false; ///< belongs to atoms rather than to their sum
};

/// What an exported file says about itself.
struct ModelInfo {
    std::string path;
    int64_t format_version = 0;
    std::string name;
    std::string weights_hash;            ///< SHA-256 of the weights, hexadecimal
    std::string dtype;                   ///< of the network: float32 or float64
    std::vector<int64_t> atomic_numbers; ///< Z of each species, ascending
    std::vector<std::string> targets;
    std::vector<std::string> outputs;      ///< what Requests::outputs may name
    std::vector<std::string> norm_outputs; ///< those that are norms of sums
    std::vector<TensorInfo> tensors;       ///< those that are tensors
    bool has_energy = true;                ///< whether "energy" is one of the targets
    int64_t n_members = 0;                 ///< size of the ensemble around the energy
    double cutoff = 0.0;                   ///< Å
    bool is_adaptive = false;
    int64_t reach_hops = 0;      ///< kept edges between an atom and what it feels
    double reach = 0.0;          ///< Å, upper bound of the receptive field
    bool is_conditioned = false; ///< reads charge and spin
    std::string metadata_json;   ///< everything, as `petmad info` prints it
};

} // namespace petmad

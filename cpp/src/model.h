// An exported model: the file, what it says about itself, and its evaluation on packed edges.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "petmad/precision.h"
#include "petmad/types.h"
#include "step_edges.h"

namespace petmad {

/// What the network says of one set of edges.
struct Prediction {
    std::vector<double> energies;     ///< [n_owned nodes] eV; empty of a model without energy
    torch::Tensor gradients;          ///< [n_edges, 3] ∂E/∂r_ij, eV/Å, float64, where the edges
                                      ///< are; undefined unless asked for
    std::vector<double> kept_edges;   ///< [n_owned nodes] after the adaptive cutoff
    std::vector<int64_t> layer_edges; ///< rows of edges that each GNN layer evaluated; empty where
                                      ///< an old file does not say, and without an energy
    std::vector<int64_t> rings; ///< [n_nodes] kept edges between a node and the owned ones, -1 if
                                ///< more than matter; of recomputed ghosts alone
    Outputs outputs;            ///< `atoms` in rows of owned nodes
};

/// In place of the handle of an exchange: ghosts' edges are listed too, and evaluated.
constexpr int64_t recompute_handle = -1;

/// A structure stored in the file with the results of the exporting program.
struct Golden {
    int64_t n_atoms = 0;
    std::vector<double> positions;
    std::vector<int32_t> species;
    std::array<double, 9> cell{};
    std::array<bool, 3> pbc{};
    int charge = 0;
    int spin_multiplicity = 1;
    bool has_energy = false; ///< whether there are the following four
    double energy = 0.0;
    std::vector<double> atomic_energies;
    std::vector<double> forces;
    std::vector<double> virial;
    std::map<std::string, std::vector<double>> tensors; ///< [n_atoms, width] by name
};

class Model {
public:
    /// Throws Error: no such file, not TorchScript, damaged, not ours, a newer format, no such
    /// device, a precision that the device or the file does not have.
    Model(const std::string& path, const std::string& device, Precision precision);
    ~Model();

    const ModelInfo& info() const;
    torch::Device device() const;
    /// What its products run in: never Precision::file.
    Precision precision() const;
    /// For a while, in one that it has been loaded for or fp32.
    void set_precision(Precision precision);
    std::vector<Golden> golden() const;

    /// `halo` is the handle of the exchange with other ranks (then collective), 0 for none, or
    /// recompute_handle. `outputs` are named further predictions. Throws Error: a file too old to
    /// recompute, an output that the model lacks; OutOfMemory.
    Prediction evaluate(
        const StepEdges& edges, int charge, int spin_multiplicity, int64_t halo,
        bool want_gradients, const std::vector<std::string>& outputs
    );

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace petmad

// The edges of a domain: searched when atoms changed, measured anew at every step, on the host or
// on the network's device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <torch/types.h>

#include "geometry.h"
#include "petmad/types.h"
#include "step_edges.h"

namespace petmad {

// Å below the reach of the list from which a missing partner is an error: nearer to the rim it may
// be missing by rounding.
constexpr double rim_margin = 1e-5;

/// How a domain's atoms are numbered. Sites are the atoms that take part, owned ones, then ghosts;
/// the first of them are the owned nodes. Nodes: see StepEdges.
struct Sites {
    int64_t n_atoms = 0;              ///< ghosts and those that take no part included
    std::vector<int64_t> owned_atoms; ///< [n_owned nodes]
    std::vector<int64_t> species;     ///< [n_nodes]
    std::vector<int64_t> atoms;       ///< [n_sites]
    std::vector<int64_t> nodes;       ///< [n_sites]

    int64_t size() const { return static_cast<int64_t>(atoms.size()); }
    int64_t n_owned() const { return static_cast<int64_t>(owned_atoms.size()); }
    bool is_remote(int64_t node) const { return node >= n_owned(); }
};

/// Which edges are listed.
struct EdgeRange {
    double cutoff = 0.0;    ///< Å
    double reach = 0.0;     ///< Å, cutoff + skin
    bool of_ghosts = false; ///< ghosts have edges too, and are nodes of their own
    int64_t n_hops = 0;     ///< of these: edges away from the owned nodes
};

/// An edge to a node that another rank owns.
struct OutwardEdge {
    int64_t raw_edge = 0;
    int64_t center_atom = 0;
    int64_t node = 0;
    Vec3 vector{}; ///< Å
};

class DomainEdges {
public:
    virtual ~DomainEdges() = default;

    /// Ascending; none where ghosts have edges.
    const std::vector<OutwardEdge>& outward() const { return outward_; }

    /// At the positions of `view`. Throws Error: atoms closer than 0.01 Å.
    virtual const StepEdges& step(const DomainView& view) = 0;

    /// The edge of the last step that each raw edge is, -1 beyond the cutoff; null where steps hold
    /// all raw edges.
    virtual const std::vector<int64_t>* step_of_raw_edge() const = 0;

protected:
    std::vector<OutwardEdge> outward_;
};

/// Searched at `positions` [n_atoms, 3]. Throws Error: an edge between nodes of this rank that is
/// not seen from its other end.
std::unique_ptr<DomainEdges>
edges_on_host(const Sites& sites, const double* positions, const EdgeRange& range);

/// The same by the kernels of GPUs. Steps keep all raw edges: the network passes over those beyond
/// the cutoff, and nothing but positions has to cross the bus.
std::unique_ptr<DomainEdges> edges_on_device(
    torch::Device device, const Sites& sites, const double* positions, const EdgeRange& range
);

/// Throws Error unless the edge is so long that its partner may be missing by rounding.
void check_unmatched(int64_t center_atom, int64_t neighbor_atom, double distance, double reach);

} // namespace petmad

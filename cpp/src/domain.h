// The edge list of a domain: built with cutoff + skin when atoms changed, cut to the cutoff at
// every step. Images of owned atoms are folded onto their owners, so one rank needs no messages.
#pragma once

#include <memory>
#include <vector>

#include "geometry.h"
#include "halo_exchange.h"
#include "petmad/types.h"
#include "step_edges.h"

namespace petmad {

class Domain {
public:
    /// Builds the list; collective if `transport` has several ranks. Throws Error: see Engine.
    Domain(const DomainView& view, double cutoff, int64_t n_species, Transport* transport);

    /// Edges within the cutoff at the positions of `view`.
    const StepEdges& step(const DomainView& view, Transport* transport);

    /// The exchange with other ranks; null if this is the only one.
    HaloExchange* halo() const { return halo_.get(); }

private:
    void number_owned(const DomainView& view, int64_t n_species);
    void number_ghosts(const DomainView& view, Transport* transport);
    void search(const DomainView& view);
    void match_edges(const DomainView& view, Transport* transport);
    void match_local(const std::vector<Vec3>& vectors);
    void fail_unmatched(int64_t edge, double distance) const;

    bool is_remote(int64_t node) const {
        return node >= static_cast<int64_t>(edges_.owned_atoms.size());
    }

    double cutoff_ = 0.0;
    double reach_ = 0.0; ///< cutoff + skin
    int64_t n_owned_ = 0;
    int64_t n_total_ = 0;
    std::vector<int64_t> node_of_atom_; ///< [n_owned] of owned atoms, -1: takes no part
    std::vector<int64_t> atom_of_site_; ///< atoms that take part: owned ones, then ghosts
    std::vector<int64_t> node_of_site_;
    std::vector<RemoteAtom> remote_atoms_;
    std::vector<int64_t> raw_centers_;   ///< sites, which are nodes too
    std::vector<int64_t> raw_neighbors_; ///< sites
    std::vector<int64_t> raw_reverse_;   ///< raw edges, -1: on another rank, or none
    std::vector<int64_t> step_of_raw_edge_;
    std::unique_ptr<HaloExchange> halo_;
    StepEdges edges_;
};

} // namespace petmad

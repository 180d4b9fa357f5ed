// A domain: its atoms are numbered and its edges listed, to cutoff + skin, when atoms changed.
// Images of owned atoms are folded onto their owners, so one rank needs no messages.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "domain_edges.h"
#include "halo_exchange.h"
#include "petmad/types.h"
#include "recomputed_ghosts.h"

namespace petmad {

class Domain {
public:
    /// Builds the list, by the kernels of GPUs if a device is given; collective if ghosts are
    /// exchanged over several ranks. Throws Error: see Engine.
    Domain(
        const DomainView& view, const ModelInfo& model, Transport* transport,
        std::optional<torch::Device> device
    );

    /// All edges within the cutoff at the positions of `view`, on a device those of the skin
    /// too. Throws Error: an atom moved so far that
    /// an edge may be missing.
    const StepEdges& step(const DomainView& view, Transport* transport);

    /// The exchange with other ranks; null if this is the only one, or ghosts are recomputed.
    HaloExchange* halo() const { return halo_.get(); }
    bool recomputes() const { return recompute_ != nullptr; }

    /// Å around the domain that its owned atoms depend on, given the ring of each node (see
    /// Prediction). Throws Error: ghosts that matter are missing.
    double reach_used(const std::vector<int64_t>& rings) const;

private:
    void number_owned(const DomainView& view, int64_t n_species);
    void number_ghosts(const DomainView& view, Transport* transport);
    void number_copies(const DomainView& view);
    void
    search(const DomainView& view, const ModelInfo& model, std::optional<torch::Device> device);
    void meet_other_ranks(Transport* transport);
    void check_same(const DomainView& view) const;
    void check_moves(const DomainView& view) const;

    double cutoff_ = 0.0;
    double reach_ = 0.0; ///< cutoff + skin
    double skin_ = 0.0;
    int64_t n_owned_ = 0;
    int64_t n_total_ = 0;
    std::vector<int64_t> node_of_atom_; ///< [n_owned] of owned atoms, -1: takes no part
    Sites sites_;
    std::vector<RemoteAtom> remote_atoms_;
    std::vector<double> built_positions_; ///< [n_sites, 3] when the list was built
    std::unique_ptr<DomainEdges> edges_;
    std::unique_ptr<HaloExchange> halo_;
    std::unique_ptr<RecomputedGhosts> recompute_;
};

} // namespace petmad

// Ghosts were picked when the list was built: an atom that is near a node now may have been half of
// the skin farther away then. The audit is exact: a node whose neighborhood is cut off by the end
// of the halo either is known to matter, or some node before it on every path to an owned atom is
// cut off as well.
#include "recomputed_ghosts.h"

#include <algorithm>
#include <cmath>

#include "petmad/error.h"

namespace petmad {
namespace {

// Å. Distances of ghosts from the domain come from the host program's own arithmetic.
constexpr double depth_margin = 1e-6;

} // namespace

NeighborList
edges_within_hops(const NeighborList& list, int64_t n_owned, int64_t n_atoms, int64_t n_hops) {
    torch::Tensor is_reached = torch::zeros({n_atoms}, list.centers.options().dtype(torch::kBool));
    is_reached.narrow(0, 0, n_owned).fill_(true);
    for (int64_t hop = 0; hop < n_hops; ++hop) {
        const torch::Tensor leads_on = is_reached.index_select(0, list.centers);
        is_reached.index_fill_(0, list.neighbors.masked_select(leads_on), true);
    }
    const torch::Tensor is_near = is_reached.index_select(0, list.centers);
    const torch::Tensor near_edges = is_near.nonzero().squeeze(1);
    return {
        list.centers.index_select(0, near_edges), list.neighbors.index_select(0, near_edges),
        list.cell_shifts.index_select(0, near_edges)
    };
}

RecomputedGhosts::RecomputedGhosts(
    const DomainView& view, const ModelInfo& model, const std::vector<int64_t>& atoms
)
    : cutoff_(model.cutoff), skin_(view.skin), depth_(view.ghost_depth),
      last_ring_(model.reach_hops - (model.is_adaptive ? 0 : 1)), atoms_(atoms) {
    begin_step(view);
}

void RecomputedGhosts::begin_step(const DomainView& view) {
    PETMAD_CHECK(
        view.ghost_distances != nullptr || view.n_total == view.n_owned,
        "recomputed ghosts need `ghost_distances`, their distances from the domain, but none were "
        "given; pass one for each ghost [Å], or leave `mode` at the exchange"
    );
    distances_.clear();
    for (const int64_t atom : atoms_) {
        const double distance =
            atom < view.n_owned ? 0.0 : view.ghost_distances[atom - view.n_owned];
        PETMAD_CHECK(
            distance >= 0.0 && std::isfinite(distance), "`ghost_distances` has ", distance,
            " of ghost ", atom - view.n_owned,
            "; pass its distance from the domain [Å], 0 where it is inside"
        );
        distances_.push_back(distance);
    }
}

double RecomputedGhosts::checked_reach(const std::vector<int64_t>& rings) const {
    double farthest = 0.0;
    for (size_t node = 0; node < rings.size(); ++node) {
        if (rings[node] >= 0 && rings[node] <= last_ring_) {
            farthest = std::max(farthest, distances_[node]);
        }
    }
    const double reach = farthest + cutoff_;
    const double needed = reach + 0.5 * skin_;
    PETMAD_CHECK(
        needed <= depth_ + depth_margin, "owned atoms depend on others up to ", reach,
        " Å outside of their domain; with half of the skin of ", skin_, " Å ghosts must be ",
        needed, " Å deep, but they are ", depth_, " Å deep: at least ", needed - depth_,
        " Å are missing; ask for deeper ghosts (LAMMPS: `pair_style petmad ... halo`), or use the "
        "exchange, which needs them one cutoff deep"
    );
    return reach;
}

} // namespace petmad

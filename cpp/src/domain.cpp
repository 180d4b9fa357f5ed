// Numbering of nodes, and what is checked at every step.
#include "domain.h"

#include <algorithm>

#include "petmad/error.h"

namespace petmad {
namespace {

constexpr const char* late_list =
    ": edges may be missing; build lists in time (LAMMPS: `neigh_modify every 1 delay 0 check "
    "yes`, and `check no` where run_style respa evaluates the model on an inner level), or take a "
    "larger skin (LAMMPS: `neighbor`)";
constexpr const char* late_for_the_box =
    ": edges may be missing; build a list at every step (LAMMPS: `neigh_modify every 1 delay 0 "
    "check no`, since its check looks at atoms that move), or take a larger skin (`neighbor`)";

/// Who owns each ghost; rank -1 for those that take no part.
std::vector<RemoteAtom> ghost_owners(const DomainView& view, Transport* transport) {
    const int here = transport ? transport->rank() : 0;
    const int n_ranks = transport ? transport->n_ranks() : 1;
    std::vector<RemoteAtom> owners;
    for (int64_t ghost = 0; ghost < view.n_total - view.n_owned; ++ghost) {
        const int rank = view.ghost_ranks ? view.ghost_ranks[ghost] : here;
        PETMAD_CHECK(
            rank >= 0 && rank < n_ranks, "ghost ", ghost, " is owned by rank ", rank,
            " but there are ", n_ranks,
            " ranks; pass a transport that reaches the owners of all ghosts"
        );
        const bool takes_part = view.species[view.n_owned + ghost] >= 0;
        owners.push_back({takes_part ? rank : -1, view.ghost_owners[ghost]});
    }
    return owners;
}

} // namespace

Domain::Domain(
    const DomainView& view, const ModelInfo& model, Transport* transport,
    std::optional<torch::Device> device
)
    : cutoff_(model.cutoff), reach_(model.cutoff + view.skin), skin_(view.skin),
      n_owned_(view.n_owned), n_total_(view.n_total) {
    PETMAD_CHECK(
        view.skin >= 0.0, "`skin` must not be negative, got ", view.skin, " Å; pass 0 for none"
    );
    PETMAD_CHECK(
        n_owned_ >= 0 && n_total_ >= n_owned_, "a domain has ", n_owned_, " owned of ", n_total_,
        " atoms; pass owned atoms first, then ghosts"
    );
    check_positions(view.positions, view.species, n_total_, view.labels);
    number_owned(view, static_cast<int64_t>(model.atomic_numbers.size()));
    if (view.mode == GhostMode::recompute) {
        number_copies(view);
        recompute_ = std::make_unique<RecomputedGhosts>(view, model, sites_.atoms);
    } else {
        number_ghosts(view, transport);
    }
    search(view, model, device);
    meet_other_ranks(transport);
}

void Domain::number_owned(const DomainView& view, int64_t n_species) {
    node_of_atom_.assign(n_owned_, -1);
    for (int64_t atom = 0; atom < n_total_; ++atom) {
        PETMAD_CHECK(
            view.species[atom] < n_species, "`species` of atom ",
            view.labels ? view.labels[atom] : atom, " is ", view.species[atom],
            " but the model has species 0 to ", n_species - 1,
            "; map elements to the model's species first"
        );
        if (atom < n_owned_ && view.species[atom] >= 0) {
            node_of_atom_[atom] = static_cast<int64_t>(sites_.atoms.size());
            sites_.nodes.push_back(node_of_atom_[atom]);
            sites_.atoms.push_back(atom);
            sites_.species.push_back(view.species[atom]);
        }
    }
    sites_.owned_atoms = sites_.atoms;
}

/// Gives each ghost a node: its owner's if that is here, else one of a remote atom.
void Domain::number_ghosts(const DomainView& view, Transport* transport) {
    const int rank = transport ? transport->rank() : 0;
    const std::vector<RemoteAtom> owners = ghost_owners(view, transport);
    for (const RemoteAtom& owner : owners) {
        if (owner.rank >= 0 && owner.rank != rank) {
            remote_atoms_.push_back(owner);
        }
    }
    std::sort(remote_atoms_.begin(), remote_atoms_.end());
    remote_atoms_.erase(
        std::unique(remote_atoms_.begin(), remote_atoms_.end()), remote_atoms_.end()
    );
    const auto n_nodes = static_cast<int64_t>(sites_.owned_atoms.size());
    sites_.species.resize(n_nodes + remote_atoms_.size(), -1);
    for (int64_t ghost = 0; ghost < n_total_ - n_owned_; ++ghost) {
        const RemoteAtom& owner = owners[ghost];
        const int32_t species = view.species[n_owned_ + ghost];
        if (species < 0) {
            continue;
        }
        int64_t node = -1;
        if (owner.rank != rank) {
            const auto at = std::lower_bound(remote_atoms_.begin(), remote_atoms_.end(), owner);
            node = n_nodes + (at - remote_atoms_.begin());
            sites_.species[node] = species;
        } else if (owner.owner >= 0 && owner.owner < n_owned_) {
            node = node_of_atom_[owner.owner];
        }
        PETMAD_CHECK(
            node >= 0 && sites_.species[node] == species, "ghost ", ghost, " of species ", species,
            " is said to copy atom ", owner.owner,
            " of this rank, which is not such an atom; pass the owners of the current ghosts and "
            "set `atoms_changed`"
        );
        sites_.nodes.push_back(node);
        sites_.atoms.push_back(n_owned_ + ghost);
    }
}

/// Every ghost is a node of its own, with edges of its own.
void Domain::number_copies(const DomainView& view) {
    for (int64_t atom = n_owned_; atom < n_total_; ++atom) {
        if (view.species[atom] >= 0) {
            sites_.nodes.push_back(static_cast<int64_t>(sites_.atoms.size()));
            sites_.atoms.push_back(atom);
            sites_.species.push_back(view.species[atom]);
        }
    }
}

void Domain::search(
    const DomainView& view, const ModelInfo& model, std::optional<torch::Device> device
) {
    sites_.n_atoms = n_total_;
    for (const int64_t atom : sites_.atoms) {
        const double* x = view.positions + 3 * atom;
        built_positions_.insert(built_positions_.end(), x, x + 3);
    }
    const EdgeRange range{cutoff_, reach_, recomputes(), model.reach_hops};
    edges_ = device ? edges_on_device(*device, sites_, view.positions, range)
                    : edges_on_host(sites_, view.positions, range);
}

void Domain::meet_other_ranks(Transport* transport) {
    if (recomputes() || !transport || transport->n_ranks() == 1) {
        return;
    }
    std::vector<CrossingEdge> crossing;
    for (const OutwardEdge& edge : edges_->outward()) {
        const RemoteAtom& neighbor = remote_atoms_[edge.node - sites_.n_owned()];
        crossing.push_back({edge.raw_edge, edge.center_atom, neighbor, edge.vector});
    }
    halo_ = std::make_unique<HaloExchange>(
        *transport, remote_atoms_, crossing, node_of_atom_, reach_ - rim_margin
    );
}

double Domain::reach_used(const std::vector<int64_t>& rings) const {
    return recompute_ ? recompute_->checked_reach(rings) : cutoff_;
}

/// Mode, skin and species are those that the list was built for.
void Domain::check_same(const DomainView& view) const {
    constexpr const char* mend = " when its list was built; set `atoms_changed`";
    PETMAD_CHECK(
        (view.mode == GhostMode::recompute) == recomputes(), "ghosts are to be ",
        recomputes() ? "exchanged, but were recomputed" : "recomputed, but were exchanged", mend
    );
    PETMAD_CHECK(view.skin == skin_, "`skin` is ", view.skin, " Å, but was ", skin_, " Å", mend);
    int64_t n_taking_part = 0;
    for (int64_t atom = 0; atom < n_total_; ++atom) {
        n_taking_part += view.species[atom] >= 0 ? 1 : 0;
    }
    PETMAD_CHECK(
        n_taking_part == sites_.size(), n_taking_part, " atoms take part, but ", sites_.size(),
        " did", mend
    );
    for (int64_t site = 0; site < sites_.size(); ++site) {
        const int64_t atom = sites_.atoms[site];
        const int64_t species = sites_.species[sites_.nodes[site]];
        PETMAD_CHECK(
            view.species[atom] == species, "`species` of atom ",
            view.labels ? view.labels[atom] : atom, " is ", view.species[atom], ", but was ",
            species, mend
        );
    }
}

/// An edge may be missing where its atoms together have moved further than the skin. Ghosts move
/// with their owners, and with the box; beyond the edges of owned atoms they have the edges of
/// nearer images.
void Domain::check_moves(const DomainView& view) const {
    double owned = 0.0;
    double ghosts = 0.0;
    for (size_t site = 0; site < sites_.atoms.size(); ++site) {
        const int64_t atom = sites_.atoms[site];
        const double* now = view.positions + 3 * atom;
        const double* then = built_positions_.data() + 3 * site;
        const double moved = norm({now[0] - then[0], now[1] - then[1], now[2] - then[2]});
        if (site >= sites_.owned_atoms.size()) {
            const bool is_far =
                recompute_ && view.ghost_distances[atom - n_owned_] > reach_ + skin_;
            ghosts = is_far ? ghosts : std::max(ghosts, moved);
            continue;
        }
        owned = std::max(owned, moved);
        PETMAD_CHECK(
            moved <= 0.5 * skin_ + rim_margin, "atom ", view.labels ? view.labels[atom] : atom,
            " has moved ", moved, " Å since the edge list was built, ", moved - 0.5 * skin_,
            " Å more than half of the skin of ", skin_, " Å", late_list
        );
    }
    PETMAD_CHECK(
        owned + ghosts <= skin_ + 2.0 * rim_margin, "ghosts have moved up to ", ghosts,
        " Å, with the box, and atoms ", owned,
        " Å since the edge list was built, together more than the skin of ", skin_, " Å",
        late_for_the_box
    );
}

const StepEdges& Domain::step(const DomainView& view, Transport* transport) {
    PETMAD_CHECK(
        !halo_ || transport, "this domain exchanges with other ranks, but no transport was given; "
                             "pass the one its list was built with"
    );
    PETMAD_CHECK(
        view.n_owned == n_owned_ && view.n_total == n_total_, "the domain has ", view.n_owned,
        " owned of ", view.n_total, " atoms, but had ", n_owned_, " of ", n_total_,
        " when its list was built; set `atoms_changed`"
    );
    check_same(view);
    check_positions(view.positions, view.species, view.n_total, view.labels);
    if (recompute_) {
        recompute_->begin_step(view);
    }
    check_moves(view);
    const StepEdges& edges = edges_->step(view);
    if (halo_) {
        halo_->begin_step(edges_->step_of_raw_edge(), *transport);
    }
    return edges;
}

} // namespace petmad

// Numbering of nodes, the search, and the matching of each edge with the edge back.
#include "domain.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <torch/types.h>

#include "petmad/edges.h"
#include "petmad/error.h"
#include "petmad/neighbor_list.h"

namespace petmad {
namespace {

// Å beyond the cutoff that step lists keep, so that rounding never decides here; the network drops
// what is beyond the cutoff.
constexpr double step_margin = 1e-6;

// Å below the reach of the list from which a missing partner is an error: nearer to the rim it may
// be missing by rounding.
constexpr double rim_margin = 1e-5;

// Å between the vectors of an edge and of its reverse, as in halo_exchange.cpp.
constexpr double vector_tolerance = 1e-6;

Vec3 difference(const double* positions, int64_t i, int64_t j) {
    return {
        positions[3 * j] - positions[3 * i], positions[3 * j + 1] - positions[3 * i + 1],
        positions[3 * j + 2] - positions[3 * i + 2]
    };
}

double mismatch(const Vec3& a, const Vec3& b) {
    return norm({a[0] + b[0], a[1] + b[1], a[2] + b[2]});
}

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

Domain::Domain(const DomainView& view, const ModelInfo& model, Transport* transport)
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
        search(view, model);
    } else {
        number_ghosts(view, transport);
        search(view, model);
        match_edges(view, transport);
    }
}

void Domain::number_owned(const DomainView& view, int64_t n_species) {
    node_of_atom_.assign(n_owned_, -1);
    for (int64_t atom = 0; atom < n_total_; ++atom) {
        PETMAD_CHECK(
            view.species[atom] < n_species, "`species` of atom ", atom, " is ", view.species[atom],
            " but the model has species 0 to ", n_species - 1,
            "; map elements to the model's species first"
        );
        if (atom < n_owned_ && view.species[atom] >= 0) {
            node_of_atom_[atom] = static_cast<int64_t>(atom_of_site_.size());
            node_of_site_.push_back(node_of_atom_[atom]);
            atom_of_site_.push_back(atom);
            edges_.species.push_back(view.species[atom]);
        }
    }
    edges_.owned_atoms = atom_of_site_;
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
    const auto n_nodes = static_cast<int64_t>(edges_.owned_atoms.size());
    edges_.species.resize(n_nodes + remote_atoms_.size(), -1);
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
            edges_.species[node] = species;
        } else if (owner.owner >= 0 && owner.owner < n_owned_) {
            node = node_of_atom_[owner.owner];
        }
        PETMAD_CHECK(
            node >= 0 && edges_.species[node] == species, "ghost ", ghost, " of species ", species,
            " is said to copy atom ", owner.owner,
            " of this rank, which is not such an atom; pass the owners of the current ghosts and "
            "set `atoms_changed`"
        );
        node_of_site_.push_back(node);
        atom_of_site_.push_back(n_owned_ + ghost);
    }
}

/// Every ghost is a node of its own, with edges of its own.
void Domain::number_copies(const DomainView& view) {
    for (int64_t atom = n_owned_; atom < n_total_; ++atom) {
        if (view.species[atom] >= 0) {
            node_of_site_.push_back(static_cast<int64_t>(atom_of_site_.size()));
            atom_of_site_.push_back(atom);
            edges_.species.push_back(view.species[atom]);
        }
    }
}

void Domain::search(const DomainView& view, const ModelInfo& model) {
    const auto n_sites = static_cast<int64_t>(atom_of_site_.size());
    const auto n_owned = static_cast<int64_t>(edges_.owned_atoms.size());
    const bool recomputes = view.mode == GhostMode::recompute;
    torch::Tensor positions = torch::empty({n_sites, 3}, torch::kFloat64);
    auto* x = positions.mutable_data_ptr<double>();
    for (int64_t site = 0; site < n_sites; ++site) {
        std::copy_n(view.positions + 3 * atom_of_site_[site], 3, x + 3 * site);
    }
    built_positions_.assign(x, x + 3 * n_owned);
    NeighborList list = build_neighbor_list(
        positions, torch::zeros({3, 3}, torch::kFloat64), torch::zeros({3}, torch::kBool), reach_,
        recomputes ? n_sites : n_owned
    );
    if (recomputes) {
        list = edges_within_hops(list, n_owned, n_sites, model.reach_hops);
        const torch::Tensor reverse = reverse_edges(list);
        const auto* values = reverse.const_data_ptr<int64_t>();
        raw_reverse_.assign(values, values + reverse.numel());
        recompute_ = std::make_unique<RecomputedGhosts>(view, model, atom_of_site_);
    }
    const auto* centers = list.centers.const_data_ptr<int64_t>();
    const auto* neighbors = list.neighbors.const_data_ptr<int64_t>();
    raw_centers_.assign(centers, centers + list.centers.numel());
    raw_neighbors_.assign(neighbors, neighbors + list.neighbors.numel());
}

void Domain::match_edges(const DomainView& view, Transport* transport) {
    std::vector<Vec3> vectors;
    std::vector<CrossingEdge> crossing;
    for (size_t e = 0; e < raw_centers_.size(); ++e) {
        const int64_t center = atom_of_site_[raw_centers_[e]];
        vectors.push_back(difference(view.positions, center, atom_of_site_[raw_neighbors_[e]]));
        const int64_t node = node_of_site_[raw_neighbors_[e]];
        if (is_remote(node)) {
            const RemoteAtom& neighbor = remote_atoms_[node - edges_.owned_atoms.size()];
            crossing.push_back({static_cast<int64_t>(e), center, neighbor, vectors.back()});
        }
    }
    match_local(vectors);
    if (transport && transport->n_ranks() > 1) {
        halo_ = std::make_unique<HaloExchange>(
            *transport, remote_atoms_, crossing, node_of_atom_, reach_ - rim_margin
        );
    }
}

/// Finds each local edge's reverse among the edges of its neighbor's owner, nearest in the vector.
void Domain::match_local(const std::vector<Vec3>& vectors) {
    const auto n_edges = static_cast<int64_t>(raw_centers_.size());
    const auto neighbor_node = [&](int64_t e) { return node_of_site_[raw_neighbors_[e]]; };
    std::vector<int64_t> starts(edges_.owned_atoms.size() + 1, 0);
    for (const int64_t center : raw_centers_) {
        ++starts[center + 1];
    }
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    std::vector<int64_t> by_neighbor(n_edges);
    std::iota(by_neighbor.begin(), by_neighbor.end(), 0);
    for (size_t center = 0; center + 1 < starts.size(); ++center) {
        std::sort(
            by_neighbor.begin() + starts[center], by_neighbor.begin() + starts[center + 1],
            [&](int64_t a, int64_t b) { return neighbor_node(a) < neighbor_node(b); }
        );
    }
    raw_reverse_.assign(n_edges, -1);
    for (int64_t e = 0; e < n_edges; ++e) {
        const int64_t node = neighbor_node(e);
        if (is_remote(node)) {
            continue;
        }
        const auto end = by_neighbor.begin() + starts[node + 1];
        auto at = std::lower_bound(
            by_neighbor.begin() + starts[node], end, raw_centers_[e],
            [&](int64_t edge, int64_t wanted) { return neighbor_node(edge) < wanted; }
        );
        double nearest = vector_tolerance;
        for (; at != end && neighbor_node(*at) == raw_centers_[e]; ++at) {
            const double distance = mismatch(vectors[*at], vectors[e]);
            if (distance < nearest) {
                nearest = distance;
                raw_reverse_[e] = *at;
            }
        }
        if (raw_reverse_[e] < 0) {
            fail_unmatched(e, norm(vectors[e]));
        }
    }
}

void Domain::fail_unmatched(int64_t edge, double distance) const {
    PETMAD_CHECK(
        distance >= reach_ - rim_margin, "edge without partner: atom ",
        atom_of_site_[raw_centers_[edge]], " sees an image of atom ",
        edges_.owned_atoms[node_of_site_[raw_neighbors_[edge]]], " at ", distance,
        " Å, but not the other way round; ghosts must reach ", reach_,
        " Å (cutoff + skin) and name the atoms they copy"
    );
}

double Domain::reach_used(const std::vector<int64_t>& rings) const {
    return recompute_ ? recompute_->checked_reach(rings) : cutoff_;
}

/// Ghosts are owned by some rank, where they are checked.
void Domain::check_moves(const DomainView& view) const {
    for (size_t node = 0; node < edges_.owned_atoms.size(); ++node) {
        const int64_t atom = edges_.owned_atoms[node];
        const double* now = view.positions + 3 * atom;
        const double* then = built_positions_.data() + 3 * node;
        const double moved = norm({now[0] - then[0], now[1] - then[1], now[2] - then[2]});
        PETMAD_CHECK(
            moved <= 0.5 * skin_ + rim_margin, "atom ", view.labels ? view.labels[atom] : atom,
            " has moved ", moved, " Å since the edge list was built, ", moved - 0.5 * skin_,
            " Å more than half of the skin of ", skin_,
            " Å: edges may be missing; build lists in time (LAMMPS: `neigh_modify every 1 delay 0 "
            "check yes`), or take a larger skin (LAMMPS: `neighbor`)"
        );
    }
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
    check_positions(view.positions, view.species, view.n_total, view.labels);
    check_moves(view);
    if (recompute_) {
        recompute_->begin_step(view);
    }
    const double radius2 = (cutoff_ + step_margin) * (cutoff_ + step_margin);
    const auto n_raw = static_cast<int64_t>(raw_centers_.size());
    step_of_raw_edge_.assign(n_raw, -1);
    edges_.clear_edges();
    for (int64_t e = 0; e < n_raw; ++e) {
        const int64_t i = atom_of_site_[raw_centers_[e]];
        const int64_t j = atom_of_site_[raw_neighbors_[e]];
        const Vec3 vector = difference(view.positions, i, j);
        const double squared = dot(vector, vector);
        if (squared <= radius2) {
            check_apart(squared, i, j, view.labels);
            step_of_raw_edge_[e] = edges_.size();
            edges_.vectors.insert(edges_.vectors.end(), vector.begin(), vector.end());
            edges_.centers.push_back(raw_centers_[e]);
            edges_.neighbors.push_back(node_of_site_[raw_neighbors_[e]]);
            edges_.reverse.push_back(raw_reverse_[e]);
            edges_.center_atoms.push_back(i);
            edges_.neighbor_atoms.push_back(j);
        }
    }
    for (int64_t& reverse : edges_.reverse) {
        reverse = reverse >= 0 ? step_of_raw_edge_[reverse] : -1;
    }
    if (halo_) {
        halo_->begin_step(step_of_raw_edge_, *transport);
    }
    return edges_;
}

} // namespace petmad

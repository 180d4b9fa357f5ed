// Edges of a domain on the host: cut to the cutoff at every step, since each costs the network.
#include <algorithm>
#include <numeric>

#include "domain_edges.h"
#include "petmad/edges.h"
#include "petmad/error.h"
#include "petmad/neighbor_list.h"
#include "recomputed_ghosts.h"

namespace petmad {
namespace {

// Å beyond the cutoff that step lists keep, so that rounding never decides here; the network drops
// what is beyond the cutoff.
constexpr double step_margin = 1e-6;

double mismatch(const Vec3& a, const Vec3& b) {
    return norm({a[0] + b[0], a[1] + b[1], a[2] + b[2]});
}

Vec3 difference(const double* positions, int64_t i, int64_t j) {
    return {
        positions[3 * j] - positions[3 * i], positions[3 * j + 1] - positions[3 * i + 1],
        positions[3 * j + 2] - positions[3 * i + 2]
    };
}

template <typename T> torch::Tensor view(std::vector<T>& values, std::vector<int64_t> shape) {
    const auto dtype = std::is_same_v<T, double> ? torch::kFloat64 : torch::kInt64;
    return torch::from_blob(values.data(), shape, dtype);
}

std::vector<int64_t> integers(const torch::Tensor& tensor) {
    const auto* values = tensor.const_data_ptr<int64_t>();
    return {values, values + tensor.numel()};
}

class HostEdges : public DomainEdges {
public:
    HostEdges(const Sites& sites, const double* positions, const EdgeRange& range)
        : sites_(sites), range_(range) {
        search(positions);
        if (!range.of_ghosts) {
            match(positions);
        }
        edges_.owned_atoms = sites.owned_atoms;
        edges_.species = view(sites_.species, {static_cast<int64_t>(sites_.species.size())});
    }

    const StepEdges& step(const DomainView& view) override;

    const std::vector<int64_t>* step_of_raw_edge() const override { return &step_of_raw_edge_; }

private:
    void search(const double* positions);
    void match(const double* positions);
    void match_local(const std::vector<Vec3>& vectors);

    int64_t node_of(int64_t raw_edge) const { return sites_.nodes[raw_neighbors_[raw_edge]]; }

    Sites sites_;
    EdgeRange range_;
    std::vector<int64_t> raw_centers_;   ///< sites, which are nodes too
    std::vector<int64_t> raw_neighbors_; ///< sites
    std::vector<int64_t> raw_reverse_;   ///< raw edges, -1: on another rank, or none
    std::vector<int64_t> step_of_raw_edge_;
    std::vector<double> vectors_; ///< of this step, as are the following
    std::vector<int64_t> centers_, neighbors_, reverse_, center_atoms_, neighbor_atoms_;
    StepEdges edges_;
};

void HostEdges::search(const double* positions) {
    torch::Tensor of_sites = torch::empty({sites_.size(), 3}, torch::kFloat64);
    auto* x = of_sites.mutable_data_ptr<double>();
    for (int64_t site = 0; site < sites_.size(); ++site) {
        std::copy_n(positions + 3 * sites_.atoms[site], 3, x + 3 * site);
    }
    const int64_t n_centers = range_.of_ghosts ? sites_.size() : sites_.n_owned();
    NeighborList list = build_neighbor_list(
        of_sites, torch::zeros({3, 3}, torch::kFloat64), torch::zeros({3}, torch::kBool),
        range_.reach, n_centers
    );
    check_crowding(list.centers.numel(), n_centers, range_.reach);
    if (range_.of_ghosts) {
        list = edges_within_hops(list, sites_.n_owned(), sites_.size(), range_.n_hops);
        raw_reverse_ = integers(reverse_edges(list));
    }
    raw_centers_ = integers(list.centers);
    raw_neighbors_ = integers(list.neighbors);
}

void HostEdges::match(const double* positions) {
    std::vector<Vec3> vectors;
    for (size_t e = 0; e < raw_centers_.size(); ++e) {
        const int64_t center = sites_.atoms[raw_centers_[e]];
        vectors.push_back(difference(positions, center, sites_.atoms[raw_neighbors_[e]]));
        const auto edge = static_cast<int64_t>(e);
        if (sites_.is_remote(node_of(edge))) {
            outward_.push_back({edge, center, node_of(edge), vectors.back()});
        }
    }
    match_local(vectors);
}

/// Finds each local edge's reverse among the edges of its neighbor's owner, nearest in the vector.
void HostEdges::match_local(const std::vector<Vec3>& vectors) {
    const auto n_edges = static_cast<int64_t>(raw_centers_.size());
    std::vector<int64_t> starts(sites_.n_owned() + 1, 0);
    for (const int64_t center : raw_centers_) {
        ++starts[center + 1];
    }
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    std::vector<int64_t> by_neighbor(n_edges);
    std::iota(by_neighbor.begin(), by_neighbor.end(), 0);
    for (size_t center = 0; center + 1 < starts.size(); ++center) {
        std::sort(
            by_neighbor.begin() + starts[center], by_neighbor.begin() + starts[center + 1],
            [&](int64_t a, int64_t b) { return node_of(a) < node_of(b); }
        );
    }
    raw_reverse_.assign(n_edges, -1);
    for (int64_t e = 0; e < n_edges; ++e) {
        const int64_t node = node_of(e);
        if (sites_.is_remote(node)) {
            continue;
        }
        const auto end = by_neighbor.begin() + starts[node + 1];
        auto at = std::lower_bound(
            by_neighbor.begin() + starts[node], end, raw_centers_[e],
            [&](int64_t edge, int64_t wanted) { return node_of(edge) < wanted; }
        );
        double nearest = vector_tolerance;
        for (; at != end && node_of(*at) == raw_centers_[e]; ++at) {
            const double distance = mismatch(vectors[*at], vectors[e]);
            if (distance < nearest) {
                nearest = distance;
                raw_reverse_[e] = *at;
            }
        }
        if (raw_reverse_[e] < 0) {
            check_unmatched(
                sites_.atoms[raw_centers_[e]], sites_.owned_atoms[node], norm(vectors[e]),
                range_.reach
            );
        }
    }
}

const StepEdges& HostEdges::step(const DomainView& view_) {
    const double radius2 = (range_.cutoff + step_margin) * (range_.cutoff + step_margin);
    const auto n_raw = static_cast<int64_t>(raw_centers_.size());
    step_of_raw_edge_.assign(n_raw, -1);
    for (auto* indices : {&centers_, &neighbors_, &reverse_, &center_atoms_, &neighbor_atoms_}) {
        indices->clear();
    }
    vectors_.clear();
    for (int64_t e = 0; e < n_raw; ++e) {
        const int64_t i = sites_.atoms[raw_centers_[e]];
        const int64_t j = sites_.atoms[raw_neighbors_[e]];
        const Vec3 vector = difference(view_.positions, i, j);
        const double squared = dot(vector, vector);
        if (squared <= radius2) {
            check_apart(squared, i, j, view_.labels);
            step_of_raw_edge_[e] = static_cast<int64_t>(centers_.size());
            vectors_.insert(vectors_.end(), vector.begin(), vector.end());
            centers_.push_back(raw_centers_[e]);
            neighbors_.push_back(node_of(e));
            reverse_.push_back(raw_reverse_[e]);
            center_atoms_.push_back(i);
            neighbor_atoms_.push_back(j);
        }
    }
    for (int64_t& reverse : reverse_) {
        reverse = reverse >= 0 ? step_of_raw_edge_[reverse] : -1;
    }
    const auto n_edges = static_cast<int64_t>(centers_.size());
    edges_.vectors = view(vectors_, {n_edges, 3});
    edges_.centers = view(centers_, {n_edges});
    edges_.neighbors = view(neighbors_, {n_edges});
    edges_.reverse = view(reverse_, {n_edges});
    edges_.center_atoms = view(center_atoms_, {n_edges});
    edges_.neighbor_atoms = view(neighbor_atoms_, {n_edges});
    edges_.n_within =
        std::lower_bound(centers_.begin(), centers_.end(), sites_.n_owned()) - centers_.begin();
    return edges_;
}

} // namespace

void check_unmatched(int64_t center_atom, int64_t neighbor_atom, double distance, double reach) {
    PETMAD_CHECK(
        distance >= reach - rim_margin, "edge without partner: atom ", center_atom,
        " sees an image of atom ", neighbor_atom, " at ", distance,
        " Å, but not the other way round; ghosts must reach ", reach,
        " Å (cutoff + skin) and name the atoms they copy"
    );
}

std::unique_ptr<DomainEdges>
edges_on_host(const Sites& sites, const double* positions, const EdgeRange& range) {
    return std::make_unique<HostEdges>(sites, positions, range);
}

} // namespace petmad

// The index of reversed edges: by counting where the list is whole, by search where it may not be.
#include <algorithm>
#include <array>
#include <vector>

#include <ATen/Parallel.h>

#include "dense.h"
#include "petmad/edges.h"
#include "petmad/error.h"

namespace petmad {
namespace {

using Triple = std::array<int64_t, 3>;

/// Edges of each center in an ascending list: first edge of center i is starts[i].
struct SortedEdges {
    const int64_t* neighbors;
    const int64_t* shifts;
    std::vector<int64_t> starts;

    Triple shift(int64_t edge) const {
        return {shifts[3 * edge], shifts[3 * edge + 1], shifts[3 * edge + 2]};
    }

    bool comes_before(int64_t edge, int64_t neighbor, const Triple& wanted) const {
        return neighbors[edge] != neighbor ? neighbors[edge] < neighbor : shift(edge) < wanted;
    }

    /// Whether this edge is center -> neighbor with this shift.
    bool is(int64_t edge, int64_t center, int64_t neighbor, const Triple& wanted) const {
        return center + 1 < static_cast<int64_t>(starts.size()) && edge >= starts[center]
               && edge < starts[center + 1] && neighbors[edge] == neighbor && shift(edge) == wanted;
    }

    /// The edge center -> neighbor with this shift, -1 if it is not listed.
    int64_t find(int64_t center, int64_t neighbor, const Triple& wanted) const {
        if (center + 1 >= static_cast<int64_t>(starts.size())) {
            return -1;
        }
        int64_t low = starts[center];
        int64_t high = starts[center + 1];
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (comes_before(middle, neighbor, wanted)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        const bool found =
            low < starts[center + 1] && neighbors[low] == neighbor && shift(low) == wanted;
        return found ? low : -1;
    }
};

/// The whole list's edges whose neighbor is one of the atoms first to last - 1: in ascending order
/// of centers, the edges back are the next ones of that neighbor; several of one pair stand in the
/// opposite order of shifts.
void count_back(
    const NeighborList& list, int64_t first, int64_t last, std::vector<int64_t>& next,
    int64_t* reverse
) {
    const auto* i = list.centers.const_data_ptr<int64_t>();
    const auto* j = list.neighbors.const_data_ptr<int64_t>();
    const int64_t n_edges = list.centers.numel();
    for (int64_t e = 0; e < n_edges;) {
        int64_t n_same = 1;
        while (e + n_same < n_edges && j[e + n_same] == j[e] && i[e + n_same] == i[e]) {
            ++n_same;
        }
        if (j[e] >= first && j[e] < last) {
            for (int64_t k = 0; k < n_same; ++k) {
                reverse[e + k] = next[j[e]] + n_same - 1 - k;
            }
            next[j[e]] += n_same;
        }
        e += n_same;
    }
}

} // namespace

torch::Tensor reverse_edges_of_whole(const NeighborList& list, int64_t n_atoms) {
    const int64_t n_edges = list.centers.numel();
    const auto* centers = list.centers.const_data_ptr<int64_t>();
    torch::Tensor result = torch::empty({n_edges}, torch::kInt64);
    std::vector<int64_t> next(n_atoms, 0); // first edge of each atom, then the next to be named
    for (int64_t e = n_edges - 1; e >= 0; --e) {
        next[centers[e]] = e;
    }
    const int64_t share = n_atoms / at::get_num_threads() + 1; // every thread reads all edges
    at::parallel_for(0, n_atoms, share, [&](int64_t first, int64_t last) {
        count_back(list, first, last, next, result.mutable_data_ptr<int64_t>());
    });
    return result;
}

torch::Tensor reverse_edges(const NeighborList& list) {
    const torch::Tensor centers = dense(list.centers, torch::kInt64);
    const torch::Tensor neighbors = dense(list.neighbors, torch::kInt64);
    const torch::Tensor shifts = dense(list.cell_shifts, torch::kInt64);
    const int64_t n_edges = centers.numel();
    PETMAD_CHECK(
        centers.dim() == 1 && neighbors.sizes() == centers.sizes()
            && shifts.sizes() == torch::IntArrayRef({n_edges, 3}),
        "`centers`, `neighbors` and `cell_shifts` must have shapes [n_edges] and [n_edges, 3], "
        "got ",
        centers.sizes(), ", ", neighbors.sizes(), " and ", shifts.sizes(), "; pass one row per edge"
    );
    const auto* i = centers.const_data_ptr<int64_t>();
    SortedEdges edges{neighbors.const_data_ptr<int64_t>(), shifts.const_data_ptr<int64_t>(), {}};
    for (int64_t e = 0; e < n_edges; ++e) {
        const bool ascends =
            e == 0 || i[e - 1] < i[e]
            || (i[e - 1] == i[e] && edges.comes_before(e - 1, edges.neighbors[e], edges.shift(e)));
        PETMAD_CHECK(
            ascends && i[e] >= 0 && edges.neighbors[e] >= 0, "edge ", e,
            " does not follow the one before it in (center, neighbor, shift); sort the list, as "
            "build_neighbor_list does, and pass atoms from 0 on"
        );
    }
    const int64_t n_centers = n_edges > 0 ? i[n_edges - 1] + 1 : 0;
    for (int64_t center = 0; center <= n_centers; ++center) {
        edges.starts.push_back(std::lower_bound(i, i + n_edges, center) - i);
    }
    torch::Tensor result = torch::empty({n_edges}, torch::kInt64);
    auto* out = result.mutable_data_ptr<int64_t>();
    // In a whole list a center is named by its neighbors in ascending order, and several edges of
    // one pair in the opposite order of shifts: what comes next is a guess that is nearly always
    // right, and searched for where it is not.
    std::vector<int64_t> next(edges.starts.begin(), edges.starts.end());
    for (int64_t e = 0; e < n_edges;) {
        const int64_t j = edges.neighbors[e];
        int64_t n_same = 1;
        while (e + n_same < n_edges && i[e + n_same] == i[e] && edges.neighbors[e + n_same] == j) {
            ++n_same;
        }
        const int64_t guess = j < n_centers ? next[j] : n_edges;
        for (int64_t k = 0; k < n_same; ++k) {
            const Triple shift = edges.shift(e + k);
            const Triple wanted{-shift[0], -shift[1], -shift[2]};
            const int64_t candidate = guess + n_same - 1 - k;
            out[e + k] =
                edges.is(candidate, j, i[e], wanted) ? candidate : edges.find(j, i[e], wanted);
        }
        if (j < n_centers) {
            next[j] += n_same;
        }
        e += n_same;
    }
    return result;
}

} // namespace petmad

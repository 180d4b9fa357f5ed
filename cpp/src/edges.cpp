// Edge vectors, the reverse-edge index by binary search, and the folds: plain loops over pointers.
#include "petmad/edges.h"

#include <algorithm>
#include <vector>

#include "geometry.h"
#include "petmad/error.h"

namespace petmad {
namespace {

using Triple = std::array<int64_t, 3>;

torch::Tensor dense(const torch::Tensor& tensor, torch::ScalarType dtype) {
    PETMAD_CHECK(
        tensor.is_cpu(), "edge functions take CPU tensors, found one on ", tensor.device(),
        "; move it with .cpu()"
    );
    return tensor.detach().to(dtype).contiguous();
}

/// Throws Error unless every one of the indices is within [0, n).
void check_indices(const torch::Tensor& indices, int64_t n, const char* name) {
    const auto* values = indices.const_data_ptr<int64_t>();
    for (int64_t e = 0; e < indices.numel(); ++e) {
        PETMAD_CHECK(
            values[e] >= 0 && values[e] < n, "`", name, "` of edge ", e, " is ", values[e],
            " but there are ", n, " atoms; pass indices from 0 to n_atoms - 1"
        );
    }
}

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

} // namespace

torch::Tensor
edge_vectors(const torch::Tensor& positions, const torch::Tensor& cell, const NeighborList& list) {
    const torch::Tensor x = dense(positions, torch::kFloat64);
    const torch::Tensor box = dense(cell, torch::kFloat64);
    const torch::Tensor centers = dense(list.centers, torch::kInt64);
    const torch::Tensor neighbors = dense(list.neighbors, torch::kInt64);
    const torch::Tensor shifts = dense(list.cell_shifts, torch::kInt64);
    check_indices(centers, x.size(0), "centers");
    check_indices(neighbors, x.size(0), "neighbors");
    const auto* rows = box.const_data_ptr<double>();
    const std::array<Vec3, 3> lattice{
        {{rows[0], rows[1], rows[2]}, {rows[3], rows[4], rows[5]}, {rows[6], rows[7], rows[8]}}
    };
    torch::Tensor result = torch::empty({centers.size(0), 3}, torch::kFloat64);
    auto* out = result.mutable_data_ptr<double>();
    const auto* i = centers.const_data_ptr<int64_t>();
    const auto* j = neighbors.const_data_ptr<int64_t>();
    const auto* s = shifts.const_data_ptr<int64_t>();
    for (int64_t e = 0; e < centers.size(0); ++e) {
        const Vec3 vector = displacement(
            x.const_data_ptr<double>(), i[e], j[e], {s[3 * e], s[3 * e + 1], s[3 * e + 2]}, lattice
        );
        std::copy(vector.begin(), vector.end(), out + 3 * e);
    }
    return result;
}

torch::Tensor reverse_edges(const NeighborList& list) {
    const torch::Tensor centers = dense(list.centers, torch::kInt64);
    const torch::Tensor neighbors = dense(list.neighbors, torch::kInt64);
    const torch::Tensor shifts = dense(list.cell_shifts, torch::kInt64);
    const int64_t n_edges = centers.size(0);
    const auto* i = centers.const_data_ptr<int64_t>();
    SortedEdges edges{neighbors.const_data_ptr<int64_t>(), shifts.const_data_ptr<int64_t>(), {}};
    for (int64_t e = 0; e < n_edges; ++e) {
        const bool ascends =
            e == 0 || i[e - 1] < i[e]
            || (i[e - 1] == i[e] && edges.comes_before(e - 1, edges.neighbors[e], edges.shift(e)));
        PETMAD_CHECK(
            ascends && i[e] >= 0, "edge ", e,
            " does not follow the one before it in (center, neighbor, shift); sort the list, as "
            "build_neighbor_list does"
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

torch::Tensor fold_forces(
    const torch::Tensor& gradients, const torch::Tensor& centers, const torch::Tensor& neighbors,
    int64_t n_atoms
) {
    const torch::Tensor dense_gradients = dense(gradients, torch::kFloat64);
    const torch::Tensor dense_centers = dense(centers, torch::kInt64);
    const torch::Tensor dense_neighbors = dense(neighbors, torch::kInt64);
    check_indices(dense_centers, n_atoms, "centers");
    check_indices(dense_neighbors, n_atoms, "neighbors");
    torch::Tensor result = torch::zeros({n_atoms, 3}, torch::kFloat64);
    auto* forces = result.mutable_data_ptr<double>();
    const auto* g = dense_gradients.const_data_ptr<double>();
    const auto* i = dense_centers.const_data_ptr<int64_t>();
    const auto* j = dense_neighbors.const_data_ptr<int64_t>();
    for (int64_t e = 0; e < dense_centers.size(0); ++e) {
        for (int k = 0; k < 3; ++k) {
            forces[3 * i[e] + k] += g[3 * e + k];
            forces[3 * j[e] + k] -= g[3 * e + k];
        }
    }
    return result;
}

torch::Tensor fold_virial(const torch::Tensor& gradients, const torch::Tensor& vectors) {
    const torch::Tensor dense_gradients = dense(gradients, torch::kFloat64);
    const torch::Tensor dense_vectors = dense(vectors, torch::kFloat64);
    torch::Tensor result = torch::zeros({3, 3}, torch::kFloat64);
    auto* virial = result.mutable_data_ptr<double>();
    const auto* g = dense_gradients.const_data_ptr<double>();
    const auto* v = dense_vectors.const_data_ptr<double>();
    for (int64_t e = 0; e < dense_vectors.size(0); ++e) {
        for (int a = 0; a < 3; ++a) {
            for (int b = 0; b < 3; ++b) {
                virial[3 * a + b] -=
                    0.5 * (v[3 * e + a] * g[3 * e + b] + v[3 * e + b] * g[3 * e + a]);
            }
        }
    }
    return result;
}

torch::Tensor fold_atomic_virials(
    const torch::Tensor& gradients, const torch::Tensor& vectors, const torch::Tensor& centers,
    const torch::Tensor& neighbors, int64_t n_atoms
) {
    const torch::Tensor dense_gradients = dense(gradients, torch::kFloat64);
    const torch::Tensor dense_vectors = dense(vectors, torch::kFloat64);
    const torch::Tensor dense_centers = dense(centers, torch::kInt64);
    const torch::Tensor dense_neighbors = dense(neighbors, torch::kInt64);
    check_indices(dense_centers, n_atoms, "centers");
    check_indices(dense_neighbors, n_atoms, "neighbors");
    torch::Tensor result = torch::zeros({n_atoms, 3, 3}, torch::kFloat64);
    auto* virials = result.mutable_data_ptr<double>();
    const auto* g = dense_gradients.const_data_ptr<double>();
    const auto* v = dense_vectors.const_data_ptr<double>();
    const auto* i = dense_centers.const_data_ptr<int64_t>();
    const auto* j = dense_neighbors.const_data_ptr<int64_t>();
    for (int64_t e = 0; e < dense_centers.size(0); ++e) {
        for (int a = 0; a < 3; ++a) {
            for (int b = 0; b < 3; ++b) {
                const double share = -0.5 * v[3 * e + a] * g[3 * e + b];
                virials[9 * i[e] + 3 * a + b] += share;
                virials[9 * j[e] + 3 * a + b] += share;
            }
        }
    }
    return result;
}

} // namespace petmad

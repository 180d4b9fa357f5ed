// Edge vectors and the folds: plain loops over pointers.
#include "petmad/edges.h"

#include <algorithm>

#include "dense.h"
#include "geometry.h"
#include "petmad/error.h"

namespace petmad {
namespace {

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

void check_shape(const torch::Tensor& tensor, torch::IntArrayRef shape, const char* name) {
    PETMAD_CHECK(
        tensor.sizes() == shape, "`", name, "` must have shape ", shape, ", got ", tensor.sizes(),
        "; pass one row per edge, atom or lattice vector"
    );
}

} // namespace

torch::Tensor
edge_vectors(const torch::Tensor& positions, const torch::Tensor& cell, const NeighborList& list) {
    const torch::Tensor x = dense(positions, torch::kFloat64);
    const torch::Tensor box = dense(cell, torch::kFloat64);
    const torch::Tensor centers = dense(list.centers, torch::kInt64);
    const torch::Tensor neighbors = dense(list.neighbors, torch::kInt64);
    const torch::Tensor shifts = dense(list.cell_shifts, torch::kInt64);
    const int64_t n_edges = centers.size(0);
    check_shape(x, {x.size(0), 3}, "positions");
    check_shape(box, {3, 3}, "cell");
    check_shape(centers, {n_edges}, "centers");
    check_shape(neighbors, {n_edges}, "neighbors");
    check_shape(shifts, {n_edges, 3}, "cell_shifts");
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

torch::Tensor fold_forces(
    const torch::Tensor& gradients, const torch::Tensor& centers, const torch::Tensor& neighbors,
    int64_t n_atoms
) {
    const torch::Tensor dense_gradients = dense(gradients, torch::kFloat64);
    const torch::Tensor dense_centers = dense(centers, torch::kInt64);
    const torch::Tensor dense_neighbors = dense(neighbors, torch::kInt64);
    const int64_t n_edges = dense_gradients.size(0);
    check_shape(dense_gradients, {n_edges, 3}, "gradients");
    check_shape(dense_centers, {n_edges}, "centers");
    check_shape(dense_neighbors, {n_edges}, "neighbors");
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
    const int64_t n_edges = dense_gradients.size(0);
    check_shape(dense_gradients, {n_edges, 3}, "gradients");
    check_shape(dense_vectors, {n_edges, 3}, "vectors");
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
    const int64_t n_edges = dense_gradients.size(0);
    check_shape(dense_gradients, {n_edges, 3}, "gradients");
    check_shape(dense_vectors, {n_edges, 3}, "vectors");
    check_shape(dense_centers, {n_edges}, "centers");
    check_shape(dense_neighbors, {n_edges}, "neighbors");
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

// Argument checks, and the search's finds as tensors: count, scan, fill, then each center's edges
// in ascending order.
#include "petmad/neighbor_list.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include <ATen/Parallel.h>

#include "cell_list.h"
#include "petmad/error.h"

namespace petmad {
namespace {

// Centers per task; a center costs microseconds, a task about ten.
constexpr int64_t grain_size = 64;

void check_arguments(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff
) {
    PETMAD_CHECK(
        positions.dim() == 2 && positions.size(1) == 3,
        "`positions` must have shape [n_atoms, 3], got ", positions.sizes(),
        "; pass one row of x, y, z in Å per atom"
    );
    PETMAD_CHECK(
        cell.dim() == 2 && cell.size(0) == 3 && cell.size(1) == 3,
        "`cell` must have shape [3, 3], got ", cell.sizes(), "; pass lattice vectors as rows"
    );
    PETMAD_CHECK(
        pbc.dim() == 1 && pbc.size(0) == 3, "`pbc` must have shape [3], got ", pbc.sizes(),
        "; pass one flag per lattice vector"
    );
    for (const torch::Tensor& tensor : {positions, cell, pbc}) {
        PETMAD_CHECK(
            tensor.is_cpu(), "`positions`, `cell` and `pbc` must be on the CPU, found one on ",
            tensor.device(), "; move them with .cpu()"
        );
    }
    PETMAD_CHECK(
        std::isfinite(cutoff) && cutoff > 0.0, "`cutoff` must be positive, got ", cutoff,
        "; pass a radius in Å"
    );
}

void check_finite(const SearchInput& input) {
    for (int64_t i = 0; i < input.n_atoms; ++i) {
        const double* x = input.positions + 3 * i;
        PETMAD_CHECK(
            std::isfinite(x[0]) && std::isfinite(x[1]) && std::isfinite(x[2]), "position of atom ",
            i, " is (", x[0], ", ", x[1], ", ", x[2],
            "); it must be finite: look for a time step that is too long or overlapping atoms"
        );
    }
}

struct Edge {
    int64_t neighbor;
    Shift shift;
};

template <typename Search> NeighborList collect(const Search& search, int64_t n_centers) {
    std::vector<int64_t> starts(n_centers + 1, 0);
    at::parallel_for(0, n_centers, grain_size, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            search.visit(i, [&](int64_t, const Shift&) { ++starts[i + 1]; });
        }
    });
    for (int64_t i = 0; i < n_centers; ++i) {
        starts[i + 1] += starts[i];
    }
    const int64_t n_edges = starts[n_centers];
    NeighborList list{
        torch::empty({n_edges}, torch::kInt64), torch::empty({n_edges}, torch::kInt64),
        torch::empty({n_edges, 3}, torch::kInt64)
    };
    auto* centers = list.centers.mutable_data_ptr<int64_t>();
    auto* neighbors = list.neighbors.mutable_data_ptr<int64_t>();
    auto* shifts = list.cell_shifts.mutable_data_ptr<int64_t>();
    at::parallel_for(0, n_centers, grain_size, [&](int64_t begin, int64_t end) {
        std::vector<Edge> found;
        for (int64_t i = begin; i < end; ++i) {
            found.clear();
            search.visit(i, [&](int64_t j, const Shift& shift) { found.push_back({j, shift}); });
            std::sort(found.begin(), found.end(), [](const Edge& a, const Edge& b) {
                return std::tie(a.neighbor, a.shift) < std::tie(b.neighbor, b.shift);
            });
            int64_t at = starts[i];
            for (const Edge& edge : found) {
                centers[at] = i;
                neighbors[at] = edge.neighbor;
                std::copy(edge.shift.begin(), edge.shift.end(), shifts + 3 * at);
                ++at;
            }
        }
    });
    return list;
}

template <typename Search>
NeighborList build(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
) {
    check_arguments(positions, cell, pbc, cutoff);
    const torch::Tensor dense_positions = positions.detach().to(torch::kFloat64).contiguous();
    const torch::Tensor dense_cell = cell.detach().to(torch::kFloat64).contiguous();
    const torch::Tensor flags = pbc.to(torch::kBool).contiguous();
    const int64_t n_atoms = positions.size(0);
    PETMAD_CHECK(
        n_centers <= n_atoms, "`n_centers` is ", n_centers, " but there are only ", n_atoms,
        " atoms; pass at most the number of atoms, or -1 for all"
    );
    const bool* periodic = flags.const_data_ptr<bool>();
    const SearchInput input{dense_positions.const_data_ptr<double>(), n_atoms, cutoff};
    check_finite(input);
    const Lattice lattice(
        dense_cell.const_data_ptr<double>(), {periodic[0], periodic[1], periodic[2]}
    );
    return collect(Search(input, lattice), n_centers < 0 ? n_atoms : n_centers);
}

} // namespace

NeighborList build_neighbor_list(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
) {
    return build<CellList>(positions, cell, pbc, cutoff, n_centers);
}

NeighborList build_neighbor_list_brute_force(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
) {
    return build<BruteForce>(positions, cell, pbc, cutoff, n_centers);
}

} // namespace petmad

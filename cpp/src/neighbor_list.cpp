// Argument checks, and what either search finds as tensors.
#include "petmad/neighbor_list.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "brute_force.h"
#include "cell_list.h"
#include "list_arguments.h"
#include "petmad/error.h"

namespace petmad {
namespace {

void check_is_on_cpu(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc
) {
    for (const torch::Tensor& tensor : {positions, cell, pbc}) {
        PETMAD_CHECK(
            tensor.is_cpu(), "`positions`, `cell` and `pbc` must be on the CPU, found one on ",
            tensor.device(), "; move them with .cpu()"
        );
    }
}

NeighborList empty_list(int64_t n_edges) {
    return {
        torch::empty({n_edges}, torch::kInt64), torch::empty({n_edges}, torch::kInt64),
        torch::empty({n_edges, 3}, torch::kInt64)
    };
}

NeighborList search_cells(const SearchInput& input, const Lattice& lattice) {
    if (input.n_centers == 0) {
        return empty_list(0);
    }
    const CellList cells(input, lattice);
    NeighborList list = empty_list(cells.n_edges());
    cells.write(
        list.centers.mutable_data_ptr<int64_t>(), list.neighbors.mutable_data_ptr<int64_t>(),
        list.cell_shifts.mutable_data_ptr<int64_t>()
    );
    return list;
}

NeighborList search_pairs(const SearchInput& input, const Lattice& lattice) {
    const std::vector<Edge> edges = all_edges(input, lattice);
    NeighborList list = empty_list(static_cast<int64_t>(edges.size()));
    auto* centers = list.centers.mutable_data_ptr<int64_t>();
    auto* neighbors = list.neighbors.mutable_data_ptr<int64_t>();
    auto* shifts = list.cell_shifts.mutable_data_ptr<int64_t>();
    for (size_t e = 0; e < edges.size(); ++e) {
        centers[e] = edges[e].center;
        neighbors[e] = edges[e].neighbor;
        std::copy(edges[e].shift.begin(), edges[e].shift.end(), shifts + 3 * e);
    }
    return list;
}

using Search = NeighborList (*)(const SearchInput& input, const Lattice& lattice);

NeighborList build(
    Search search, const torch::Tensor& positions, const torch::Tensor& cell,
    const torch::Tensor& pbc, double cutoff, int64_t n_centers
) {
    check_list_arguments(positions, cell, pbc, cutoff);
    check_is_on_cpu(positions, cell, pbc);
    const torch::Tensor dense_positions = positions.detach().to(torch::kFloat64).contiguous();
    const torch::Tensor dense_cell = cell.detach().to(torch::kFloat64).contiguous();
    const torch::Tensor flags = pbc.to(torch::kBool).contiguous();
    const int64_t n_atoms = positions.size(0);
    PETMAD_CHECK(
        n_centers <= n_atoms, "`n_centers` is ", n_centers, " but there are only ", n_atoms,
        " atoms; pass at most the number of atoms, or -1 for all"
    );
    const bool* periodic = flags.const_data_ptr<bool>();
    const SearchInput input{
        dense_positions.const_data_ptr<double>(), n_atoms, n_centers < 0 ? n_atoms : n_centers,
        cutoff
    };
    for (int64_t i = 0; i < n_atoms; ++i) {
        check_position(input.positions + 3 * i, i);
    }
    const Lattice lattice(
        dense_cell.const_data_ptr<double>(), {periodic[0], periodic[1], periodic[2]}
    );
    return search(input, lattice);
}

} // namespace

NeighborList build_neighbor_list(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
) {
    return build(search_cells, positions, cell, pbc, cutoff, n_centers);
}

NeighborList build_neighbor_list_brute_force(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
) {
    return build(search_pairs, positions, cell, pbc, cutoff, n_centers);
}

} // namespace petmad

// Argument checks, and the search's finds as tensors: each center's edges in ascending order, found
// once by runs of centers, then written where the runs before them end.
#include "petmad/neighbor_list.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>

#include "cell_list.h"
#include "list_arguments.h"
#include "petmad/error.h"

namespace petmad {
namespace {

// Centers that a thread works on at a time: a center costs microseconds, a task about ten.
constexpr int64_t centers_per_run = 32;

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

/// Edges of a run of centers, in the order of the list.
struct Found {
    std::vector<EdgeKey> edges;
    std::vector<int64_t> ends; ///< after each center's
};

template <typename Search>
void write(
    const Search& search, const Found& found, int64_t first, int64_t at, NeighborList& list
) {
    auto* centers = list.centers.mutable_data_ptr<int64_t>();
    auto* neighbors = list.neighbors.mutable_data_ptr<int64_t>();
    auto* shifts = list.cell_shifts.mutable_data_ptr<int64_t>();
    int64_t edge = 0;
    for (size_t k = 0; k < found.ends.size(); ++k) {
        const int64_t i = first + static_cast<int64_t>(k);
        for (; edge < found.ends[k]; ++edge, ++at) {
            const Shift shift = search.shift(i, found.edges[edge]);
            centers[at] = i;
            neighbors[at] = found.edges[edge].neighbor();
            std::copy(shift.begin(), shift.end(), shifts + 3 * at);
        }
    }
}

template <typename Search> NeighborList collect(const Search& search, int64_t n_centers) {
    const int64_t n_runs = (n_centers + centers_per_run - 1) / centers_per_run;
    std::vector<Found> runs(n_runs);
    at::parallel_for(0, n_runs, 1, [&](int64_t begin, int64_t end) {
        for (int64_t run = begin; run < end; ++run) {
            Found& found = runs[run];
            const int64_t first = run * centers_per_run;
            const int64_t last = std::min(first + centers_per_run, n_centers);
            for (int64_t i = first; i < last; ++i) {
                const auto before = static_cast<int64_t>(found.edges.size());
                search.find(i, found.edges);
                std::sort(found.edges.begin() + before, found.edges.end());
                found.ends.push_back(static_cast<int64_t>(found.edges.size()));
            }
        }
    });
    std::vector<int64_t> starts{0};
    for (const Found& found : runs) {
        starts.push_back(starts.back() + static_cast<int64_t>(found.edges.size()));
    }
    const int64_t n_edges = starts.back();
    NeighborList list{
        torch::empty({n_edges}, torch::kInt64), torch::empty({n_edges}, torch::kInt64),
        torch::empty({n_edges, 3}, torch::kInt64)
    };
    at::parallel_for(0, n_runs, 1, [&](int64_t begin, int64_t end) {
        for (int64_t run = begin; run < end; ++run) {
            write(search, runs[run], run * centers_per_run, starts[run], list);
            runs[run] = {};
        }
    });
    return list;
}

template <typename Search>
NeighborList build(
    const torch::Tensor& positions, const torch::Tensor& cell, const torch::Tensor& pbc,
    double cutoff, int64_t n_centers
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

// The search, step by step; sorting and sums over all atoms are torch's.
#include "list_ops.h"

#include <algorithm>
#include <cmath>

#include "../geometry.h"
#include "../list_arguments.h"
#include "tensors.h"

namespace petmad::cuda {
namespace {

void check_finite(const Tensor& positions) {
    if (positions.isfinite().all().item<bool>()) {
        return;
    }
    const Tensor bad = positions.isfinite().all(1).logical_not();
    const auto atom = bad.nonzero()[0].item<int64_t>();
    const Tensor x = positions[atom].cpu();
    const auto* values = in<double>(x);
    detail::fail(
        "position of atom ", atom, " is (", values[0], ", ", values[1], ", ", values[2],
        "); it must be finite: look for a time step that is too long or overlapping atoms"
    );
}

Lattice lattice_of(const Tensor& cell_, const Tensor& pbc_) {
    const Tensor cell = dense(cell_.cpu(), torch::kFloat64);
    const Tensor pbc = dense(pbc_.cpu(), torch::kBool);
    const bool* periodic = in<bool>(pbc);
    return {in<double>(cell), {periodic[0], periodic[1], periodic[2]}};
}

/// Rows and reciprocal; bins are chosen when the atoms' extent is known.
BinGrid grid_of(const Lattice& lattice) {
    BinGrid grid{};
    for (int k = 0; k < 3; ++k) {
        std::copy(lattice.rows[k].begin(), lattice.rows[k].end(), grid.rows[k]);
        std::copy(lattice.reciprocal[k].begin(), lattice.reciprocal[k].end(), grid.reciprocal[k]);
        grid.pbc[k] = lattice.pbc[k];
        grid.widths[k] = 1.0;
    }
    return grid;
}

/// Bins at least a cutoff wide where the system is, not too many.
void choose_bins(BinGrid& grid, const Lattice& lattice, int64_t n_atoms, double cutoff) {
    const double n_most = 2.0 + 2.0 * std::floor(std::cbrt(static_cast<double>(n_atoms)));
    for (int k = 0; k < 3; ++k) {
        const double width = grid.widths[k] * lattice.heights[k];
        grid.n_bins[k] = static_cast<int64_t>(std::clamp(std::floor(width / cutoff), 1.0, n_most));
        const double reach = cutoff * (1.0 + 1e-9) * static_cast<double>(grid.n_bins[k]);
        const bool has_others = width > 0.0 && (grid.pbc[k] || grid.n_bins[k] > 1);
        grid.n_range[k] = has_others ? static_cast<int64_t>(std::ceil(reach / width + 1e-9)) : 0;
    }
}

/// Extent of the atoms along open directions.
void measure(BinGrid& grid, const Tensor& fractions) {
    const Tensor lows = fractions.amin(0).cpu();
    const Tensor highs = fractions.amax(0).cpu();
    for (int k = 0; k < 3; ++k) {
        if (!grid.pbc[k]) {
            grid.lowest[k] = in<double>(lows)[k];
            grid.widths[k] = in<double>(highs)[k] - grid.lowest[k];
        }
    }
}

/// Atoms in bins; owns what Binned points to.
struct Bins {
    BinGrid grid;
    Tensor wraps, bins, order, starts;

    Bins(const Where& where, const Tensor& positions, const Lattice& lattice, double cutoff)
        : grid(grid_of(lattice)) {
        const int64_t n_atoms = positions.size(0);
        const auto integers = positions.options().dtype(torch::kInt64);
        const ListKernels& kernels = list_kernels(where.on_gpu);
        const Tensor fractions = torch::empty_like(positions);
        wraps = torch::empty({n_atoms, 3}, integers);
        kernels.wrap(
            where, in<double>(positions), n_atoms, grid, out<double>(fractions), out<int64_t>(wraps)
        );
        measure(grid, fractions);
        choose_bins(grid, lattice, n_atoms, cutoff);
        bins = torch::empty({n_atoms, 3}, integers);
        const Tensor flat = torch::empty({n_atoms}, integers);
        kernels.bin(
            where, in<double>(fractions), n_atoms, grid, out<int64_t>(bins), out<int64_t>(flat)
        );
        const auto [sorted, atoms] = flat.sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
        order = atoms;
        starts = torch::empty({grid.n_all() + 1}, integers);
        kernels.starts(where, in<int64_t>(sorted), n_atoms, grid.n_all(), out<int64_t>(starts));
    }

    Binned view(const Tensor& positions, double cutoff) const {
        return {in<double>(positions), in<int64_t>(wraps),  in<int64_t>(bins),
                in<int64_t>(order),    in<int64_t>(starts), cutoff};
    }
};

EdgeView view_of(const NeighborList& list, const Tensor& starts) {
    return {
        in<int64_t>(list.centers), in<int64_t>(list.neighbors), in<int64_t>(list.cell_shifts),
        in<int64_t>(starts),       list.centers.numel(),        starts.numel() - 1,
    };
}

NeighborList dense_list(const NeighborList& list) {
    return {
        dense(list.centers, torch::kInt64), dense(list.neighbors, torch::kInt64),
        dense(list.cell_shifts, torch::kInt64)
    };
}

void check_ascending(const Tensor& centers) {
    PETMAD_CHECK(
        centers.numel() == 0
            || ((centers.diff() >= 0).all().item<bool>() && centers[0].item<int64_t>() >= 0),
        "the centers of a list on a device must ascend from 0; sort the list, as "
        "build_neighbor_list does"
    );
}

NeighborList empty_list(const Tensor& positions) {
    const auto integers = positions.options().dtype(torch::kInt64);
    return {
        torch::empty({0}, integers), torch::empty({0}, integers), torch::empty({0, 3}, integers)
    };
}

} // namespace

NeighborList build_list(
    const Tensor& positions_, const Tensor& cell, const Tensor& pbc, double cutoff,
    int64_t n_centers
) {
    check_list_arguments(positions_, cell, pbc, cutoff);
    PETMAD_CHECK(
        n_centers <= positions_.size(0), "`n_centers` is ", n_centers, " but there are only ",
        positions_.size(0), " atoms; pass at most the number of atoms, or -1 for all"
    );
    const Lattice lattice = lattice_of(cell, pbc);
    const c10::DeviceGuard guard(positions_.device());
    const Tensor positions = dense(positions_, torch::kFloat64);
    n_centers = n_centers < 0 ? positions.size(0) : n_centers;
    check_finite(positions);
    if (n_centers == 0) {
        return empty_list(positions);
    }
    const Where where = where_of(positions);
    const ListKernels& kernels = list_kernels(where.on_gpu);
    const Bins bins(where, positions, lattice, cutoff);
    const Binned atoms = bins.view(positions, cutoff);
    const auto integers = positions.options().dtype(torch::kInt64);

    const Tensor counts = torch::empty({n_centers, rows_of(bins.grid)}, integers);
    kernels.count(where, atoms, bins.grid, n_centers, out<int64_t>(counts));
    const Tensor ends = counts.flatten().cumsum(0);
    const Tensor firsts = ends - counts.flatten();
    const auto n_edges = ends[-1].item<int64_t>();

    const Tensor all = torch::arange(n_centers, integers);
    NeighborList found{
        torch::repeat_interleave(all, counts.sum(1), 0, n_edges), torch::empty({n_edges}, integers),
        torch::empty({n_edges, 3}, integers)
    };
    kernels.fill(
        where, atoms, bins.grid, n_centers, in<int64_t>(firsts), out<int64_t>(found.neighbors),
        out<int64_t>(found.cell_shifts)
    );
    const Tensor starts = list_starts(found.centers, n_centers);
    const NeighborList sorted{
        found.centers, torch::empty_like(found.neighbors), torch::empty_like(found.cell_shifts)
    };
    kernels.sort(
        where, view_of(found, starts), out<int64_t>(sorted.neighbors),
        out<int64_t>(sorted.cell_shifts)
    );
    return sorted;
}

Tensor list_vectors(const Tensor& positions_, const Tensor& cell_, const NeighborList& list_) {
    const c10::DeviceGuard guard(positions_.device());
    const Tensor positions = dense(positions_, torch::kFloat64);
    const Tensor cell = dense(cell_.to(positions.device()), torch::kFloat64);
    const NeighborList list = dense_list(list_);
    const Where where = where_of(positions);
    const Tensor vectors = torch::empty({list.centers.numel(), 3}, positions.options());
    list_kernels(where.on_gpu)
        .vectors(
            where, in<double>(positions), in<double>(cell), view_of(list, list.centers),
            out<double>(vectors)
        );
    return vectors;
}

Tensor list_starts(const Tensor& centers_, int64_t n_centers) {
    const c10::DeviceGuard guard(centers_.device());
    const Tensor centers = dense(centers_, torch::kInt64);
    const Where where = where_of(centers);
    const Tensor starts = torch::empty({n_centers + 1}, centers.options());
    list_kernels(where.on_gpu)
        .starts(where, in<int64_t>(centers), centers.numel(), n_centers, out<int64_t>(starts));
    return starts;
}

Tensor reverse_list(const NeighborList& list_) {
    const c10::DeviceGuard guard(list_.centers.device());
    const NeighborList list = dense_list(list_);
    check_ascending(list.centers);
    const int64_t n_edges = list.centers.numel();
    const int64_t n_centers = n_edges > 0 ? list.centers[-1].item<int64_t>() + 1 : 0;
    const Tensor starts = list_starts(list.centers, n_centers);
    const Where where = where_of(list.centers);
    const Tensor reverse = torch::empty_like(list.centers);
    list_kernels(where.on_gpu).reverse(where, view_of(list, starts), out<int64_t>(reverse));
    return reverse;
}

Tensor match_list(
    const Tensor& centers_, const Tensor& nodes_, const Tensor& vectors_, int64_t n_nodes,
    double tolerance
) {
    const c10::DeviceGuard guard(centers_.device());
    const Tensor centers = dense(centers_, torch::kInt64);
    const Tensor nodes = dense(nodes_, torch::kInt64);
    const Tensor vectors = dense(vectors_, torch::kFloat64);
    check_ascending(centers);
    const Tensor by_node = nodes.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
    const Tensor order = by_node.index_select(
        0, centers.index_select(0, by_node).argsort(/*stable=*/true, 0, false)
    );
    const Tensor starts = list_starts(centers, n_nodes);
    const Where where = where_of(centers);
    const Tensor reverse = torch::empty_like(centers);
    list_kernels(where.on_gpu)
        .match(
            where,
            {in<int64_t>(centers), in<int64_t>(nodes), in<double>(vectors), in<int64_t>(order),
             in<int64_t>(starts), centers.numel(), n_nodes},
            tolerance, out<int64_t>(reverse)
        );
    return reverse;
}

ListIncidence incidence_of(const Tensor& centers_, const Tensor& neighbors_, int64_t n_atoms) {
    const c10::DeviceGuard guard(centers_.device());
    const Tensor centers = dense(centers_, torch::kInt64);
    const Tensor neighbors = dense(neighbors_, torch::kInt64);
    check_ascending(centers);
    const auto [sorted, incoming] =
        neighbors.sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
    return {list_starts(centers, n_atoms), incoming, list_starts(sorted, n_atoms)};
}

namespace {

Incidence view_of(const ListIncidence& incidence) {
    return {
        in<int64_t>(incidence.starts),   incidence.starts.numel() - 1,
        in<int64_t>(incidence.incoming), in<int64_t>(incidence.in_starts),
        incidence.in_starts.numel() - 1,
    };
}

} // namespace

Tensor fold_list_forces(const Tensor& gradients_, const ListIncidence& incidence) {
    const c10::DeviceGuard guard(gradients_.device());
    const Tensor gradients = dense(gradients_, torch::kFloat64);
    const Where where = where_of(gradients);
    const Incidence of = view_of(incidence);
    const Tensor forces = torch::empty({of.n_atoms, 3}, gradients.options());
    list_kernels(where.on_gpu).fold_forces(where, of, in<double>(gradients), out<double>(forces));
    return forces;
}

Tensor fold_list_virial(const Tensor& gradients_, const Tensor& vectors_) {
    constexpr int64_t run = 1024; // edges per warp: 32 of each lane
    const c10::DeviceGuard guard(gradients_.device());
    const Tensor gradients = dense(gradients_, torch::kFloat64);
    const Tensor vectors = dense(vectors_, torch::kFloat64);
    const Where where = where_of(gradients);
    const int64_t n = gradients.size(0);
    const Tensor sums = torch::empty({(n + run - 1) / run, 3, 3}, gradients.options());
    list_kernels(where.on_gpu)
        .virial_runs(where, in<double>(gradients), in<double>(vectors), n, run, out<double>(sums));
    const Tensor total = sums.sum(0);
    return 0.5 * (total + total.t());
}

Tensor fold_list_atomic_virials(
    const Tensor& gradients_, const Tensor& vectors_, const ListIncidence& incidence
) {
    const c10::DeviceGuard guard(gradients_.device());
    const Tensor gradients = dense(gradients_, torch::kFloat64);
    const Tensor vectors = dense(vectors_, torch::kFloat64);
    const Where where = where_of(gradients);
    const Incidence of = view_of(incidence);
    const Tensor virials = torch::empty({of.n_atoms, 3, 3}, gradients.options());
    list_kernels(where.on_gpu)
        .fold_virials(where, of, in<double>(gradients), in<double>(vectors), out<double>(virials));
    return virials;
}

} // namespace petmad::cuda

// The table of list kernels. Included once by g++ (list_host.cpp) and once by nvcc (list.cu).
#pragma once

#include "cutoff_kernels.h"
#include "list_folds.h"

namespace petmad::cuda {
namespace {

const ListKernels list_table = {
    [](const Where& where, const double* positions, int64_t n, const BinGrid& grid,
       double* fractions,
       int64_t* wraps) { each(where, n, WrapAtoms{positions, grid, fractions, wraps}); },
    [](const Where& where, const double* fractions, int64_t n, const BinGrid& grid, int64_t* bins,
       int64_t* flat) { each(where, n, BinAtoms{fractions, grid, bins, flat}); },
    [](const Where& where, const int64_t* ascending, int64_t n, int64_t n_keys, int64_t* starts) {
        each(where, n_keys + 1, Starts{ascending, n, starts});
    },
    [](const Where& where, const Binned& atoms, const BinGrid& grid, int64_t n_centers,
       int64_t* counts) {
        const int64_t n_rows = rows_of(grid);
        each(where, n_centers * n_rows, CountEdges{{atoms, grid}, n_rows, counts});
    },
    [](const Where& where, const Binned& atoms, const BinGrid& grid, int64_t n_centers,
       const int64_t* firsts, int64_t* neighbors, int64_t* shifts) {
        const int64_t n_rows = rows_of(grid);
        each(
            where, n_centers * n_rows, FillEdges{{atoms, grid}, n_rows, firsts, neighbors, shifts}
        );
    },
    [](const Where& where, const EdgeView& edges, int64_t* neighbors, int64_t* shifts) {
        each(where, edges.n_edges, SortEdges{edges, neighbors, shifts});
    },
    [](const Where& where, const double* positions, const double* cell, const EdgeView& edges,
       double* vectors) {
        each(where, edges.n_edges, EdgeVectors{positions, cell, edges, vectors});
    },
    [](const Where& where, const EdgeView& edges, int64_t* reverse) {
        each(where, edges.n_edges, ReverseEdges{edges, reverse});
    },
    [](const Where& where, const NodeEdges& of, double tolerance, int64_t* reverse) {
        each(where, of.n_edges, MatchEdges{of, tolerance, reverse});
    },
    [](const Where& where, const Incidence& of, const double* gradients, double* forces) {
        warps(where, of.n_atoms, 0, FoldForces{of, gradients, forces});
    },
    [](const Where& where, const Incidence& of, const double* gradients, const double* vectors,
       double* virials) {
        warps(where, of.n_atoms, 0, FoldVirials{of, gradients, vectors, virials});
    },
    [](const Where& where, const double* gradients, const double* vectors, int64_t n, int64_t run,
       double* sums) {
        warps(where, (n + run - 1) / run, 0, VirialRuns{gradients, vectors, n, run, sums});
    },
    [](const Where& where, const double* distances, const int64_t* starts, int64_t n_centers,
       const SolverAims& aims, double* cutoffs, double* derivatives) {
        warps(where, n_centers, 0, Solver{distances, starts, aims, cutoffs, derivatives});
    },
    [](const Where& where, const double* distances, const int64_t* starts, int64_t n_centers,
       const GridAims& aims, double* scratch, double* cutoffs, double* derivatives) {
        warps(where, n_centers, 0, Grid{distances, starts, aims, scratch, cutoffs, derivatives});
    },
};

} // namespace
} // namespace petmad::cuda

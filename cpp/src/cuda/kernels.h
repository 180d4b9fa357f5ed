// The launch functions: plain pointers and sizes, one table per data type and side.
// Free of torch and CUDA headers. Arrays are dense and row-major, in the memory of `where`; n
// counts rows, w is their width. Sums run in a fixed order: the same bits every time.
#pragma once

#include <cstdint>
#include <string>

#include "where.h"

namespace petmad::cuda {

/// The bins of the neighbor search; those of the CPU are chosen otherwise, see bins.h.
struct BinGrid {
    double rows[3][3];       ///< Å, lattice vectors; unit normals along open directions
    double reciprocal[3][3]; ///< fractional coordinate k of x is dot(x, reciprocal[k])
    bool pbc[3];
    double lowest[3];   ///< fractional coordinate of the first bin
    double widths[3];   ///< fractional extent of all bins
    int64_t n_bins[3];  ///< along each direction
    int64_t n_range[3]; ///< bins to look at on either side

    int64_t n_all() const { return n_bins[0] * n_bins[1] * n_bins[2]; }
};

/// Atoms sorted into bins.
struct Binned {
    const double* positions; ///< [n_atoms, 3] Å
    const int64_t* wraps;    ///< [n_atoms, 3] lattice vectors taken off each atom
    const int64_t* bins;     ///< [n_atoms, 3] bin of each
    const int64_t* order;    ///< [n_atoms] atoms by bin, ascending within
    const int64_t* starts;   ///< [n_bins + 1] first of each bin in `order`
    double cutoff;           ///< Å
};

/// Edges sorted by center.
struct EdgeView {
    const int64_t* centers;   ///< [n_edges]
    const int64_t* neighbors; ///< [n_edges]
    const int64_t* shifts;    ///< [n_edges, 3]
    const int64_t* starts;    ///< [n_centers + 1]
    int64_t n_edges;
    int64_t n_centers;
};

/// Edges between nodes, several of a pair, sorted by center.
struct NodeEdges {
    const int64_t* centers; ///< [n_edges] nodes
    const int64_t* nodes;   ///< [n_edges] of the neighbors; beyond n_nodes: of other ranks
    const double* vectors;  ///< [n_edges, 3] Å
    const int64_t* order;   ///< [n_edges] edges by (center, node), ascending within
    const int64_t* starts;  ///< [n_nodes + 1] first of each center in `order`
    int64_t n_edges;
    int64_t n_nodes;
};

/// Edges of each atom from both ends: those it is center of are starts[i] to starts[i + 1]; those
/// it is neighbor of are incoming[in_starts[i]] to incoming[in_starts[i + 1]].
struct Incidence {
    const int64_t* starts;
    int64_t n_centers;
    const int64_t* incoming;
    const int64_t* in_starts;
    int64_t n_atoms;
};

/// Aims of the adaptive cutoffs; see cpu/cutoff_op.h.
struct SolverAims {
    double cutoff, n_neighbors, width;
    int64_t iterations;
    double slope_floor;
};
struct GridAims {
    double cutoff;
    const double* probes;
    int64_t n_probes;
    double n_neighbors, width, floor;
};

/// Everything in float64: list, geometry, folds.
struct ListKernels {
    void (*wrap)(
        const Where&, const double* positions, int64_t n, const BinGrid&, double* fractions,
        int64_t* wraps
    );
    /// bins [n, 3], and flat [n] index of each.
    void (*bin)(
        const Where&, const double* fractions, int64_t n, const BinGrid&, int64_t* bins,
        int64_t* flat
    );
    /// starts[k], 0 <= k <= n_keys: number of the n ascending values below k.
    void (*starts)(
        const Where&, const int64_t* ascending, int64_t n, int64_t n_keys, int64_t* starts
    );
    /// Edges of each center and row of bins, [n_centers, rows_of(grid)].
    void (*count)(const Where&, const Binned&, const BinGrid&, int64_t n_centers, int64_t* counts);
    /// The same, written from firsts[center, row] on, in the order of the search.
    void (*fill)(
        const Where&, const Binned&, const BinGrid&, int64_t n_centers, const int64_t* firsts,
        int64_t* neighbors, int64_t* shifts
    );
    /// Each center's edges in ascending order of (neighbor, shift).
    void (*sort)(const Where&, const EdgeView& unsorted, int64_t* neighbors, int64_t* shifts);
    void (*vectors)(
        const Where&, const double* positions, const double* cell, const EdgeView&, double* vectors
    );
    /// The edge back of each edge of a sorted list, -1 where it is not listed.
    void (*reverse)(const Where&, const EdgeView&, int64_t* reverse);
    /// The same where neighbors are images of nodes and vectors tell them apart.
    void (*match)(const Where&, const NodeEdges&, double tolerance, int64_t* reverse);
    /// forces [n_atoms, 3]: F_i += g_ij, F_j -= g_ij.
    void (*fold_forces)(const Where&, const Incidence&, const double* gradients, double* forces);
    /// Half of each edge to either end, [n_atoms, 3, 3].
    void (*fold_virials)(
        const Where&, const Incidence&, const double* gradients, const double* vectors,
        double* virials
    );
    /// Sums of -r ⊗ g over runs of `run` edges, [ceil(n / run), 3, 3]; not symmetrised.
    void (*virial_runs)(
        const Where&, const double* gradients, const double* vectors, int64_t n, int64_t run,
        double* sums
    );
    /// Cutoff of each center, and its derivative in each distance.
    void (*solver)(
        const Where&, const double* distances, const int64_t* starts, int64_t n_centers,
        const SolverAims&, double* cutoffs, double* derivatives
    );
    /// `scratch` holds 4 n_probes values per center.
    void (*grid)(
        const Where&, const double* distances, const int64_t* starts, int64_t n_centers,
        const GridAims&, double* scratch, double* cutoffs, double* derivatives
    );
};

/// Tokens of the attention; see cpu/attention_op.h.
template <typename T> struct Tokens {
    const T* qkv;
    const T* log_weights;
    const int64_t* starts;
    int64_t n_centers;
    int n_heads;
    int d_head;
    T scale;
};

/// Widest head the attention kernels take.
constexpr int most_d_head = 128;

template <typename T> struct NetworkKernels {
    /// y = norm(x); statistics [n] (RMS) or [n, 2] (layer norm) for the backward pass.
    void (*norm)(
        const Where&, bool is_layer_norm, const T* x, const T* gain, const T* bias, T epsilon,
        int64_t n, int64_t w, T* y, T* statistics
    );
    /// dx = adjoint of the norm + direct, which may be null.
    void (*norm_backward)(
        const Where&, bool is_layer_norm, const T* x, const T* gain, const T* statistics,
        const T* dy, const T* direct, int64_t n, int64_t w, T* dx
    );
    /// The same over rows of two arrays beside each other: y [n, 2w] of left and right [n, w].
    void (*paired_norm)(
        const Where&, bool is_layer_norm, const T* left, const T* right, const T* gain,
        const T* bias, T epsilon, int64_t n, int64_t w, T* y, T* statistics
    );
    /// d_left = adjoint + direct, d_right = adjoint.
    void (*paired_norm_backward)(
        const Where&, bool is_layer_norm, const T* left, const T* right, const T* gain,
        const T* statistics, const T* dy, const T* direct, int64_t n, int64_t w, T* d_left,
        T* d_right
    );
    /// y [n, w] of u [n, 2w] (SwiGLU) or [n, w] (SiLU), after adding the bias to u.
    void (*activate)(
        const Where&, bool gated, const T* u, const T* bias, int64_t n, int64_t w, T* y
    );
    void (*activate_backward)(
        const Where&, bool gated, const T* u, const T* bias, const T* dy, int64_t n, int64_t w,
        T* du
    );
    /// y = (product + bias) + direct + base, which may be null; y may be the product.
    void (*add_bias)(
        const Where&, const T* product, const T* bias, const T* direct, const T* base, int64_t n,
        int64_t w, T* y
    );
    /// inner = messages' product (null: none) + geometry @ w_geometry + table[species], and its
    /// SiLU.
    void (*embed)(
        const Where&, const T* product, const T* geometry, const T* w_geometry, const T* table,
        const int64_t* species, int64_t n, int64_t w, T* inner, T* activated
    );
    /// du = adjoint of inner, d_geometry [n, 4] = du @ w_geometryᵀ.
    void (*embed_backward)(
        const Where&, const T* inner, const T* d_activated, const T* w_geometry, int64_t n,
        int64_t w, T* du, T* d_geometry
    );
    /// mixed [rows, n_heads d_head] and the logarithm of each query's sum, [rows, n_heads].
    void (*attention)(const Where&, const Tokens<T>&, T* mixed, T* log_sums);
    /// d_qkv like qkv, d_log_weights [n_edges, n_heads]; dots is scratch like log_sums.
    void (*attention_backward)(
        const Where&, const Tokens<T>&, const T* mixed, const T* log_sums, const T* d_mixed,
        T* dots, T* d_qkv, T* d_log_weights
    );
    /// out [n_centers, w]: `base` (null: 0) + rows of each center times their weight (null: 1).
    void (*sum_rows)(
        const Where&, const T* rows, const T* weights, const int64_t* starts, const T* base,
        int64_t n_centers, int64_t w, T* out
    );
};

/// Rows of bins that a center looks at.
inline int64_t rows_of(const BinGrid& grid) {
    return (2 * grid.n_range[0] + 1) * (2 * grid.n_range[1] + 1);
}

/// Whether this build has code for GPUs.
bool has_gpu_kernels();

/// Bytes that a GPU has free; 0 where this build cannot ask.
int64_t free_memory(int device);

/// The 16 bytes that name a GPU, or a part of one, whatever number a process knows it by; empty
/// where this build cannot ask.
std::string identity(int device);

/// The GPU's where `on_gpu`, else the emulation's. Throws Error where the build has no GPU code.
const ListKernels& list_kernels(bool on_gpu);
template <typename T> const NetworkKernels<T>& network_kernels(bool on_gpu);

} // namespace petmad::cuda

// The neighbor search: count, then fill, one thread per center and row of bins; no atomics, so the
// order is that of the bins, and `sort` makes it that of the CPU's list.
#pragma once

#include "kernels.h"
#include "launch.h"

namespace petmad::cuda {
namespace {

/// r_j - r_i + S·cell in the CPU's order of operations (compiled without contraction).
PETMAD_KERNEL void displacement(
    const double* positions, int64_t i, int64_t j, const int64_t* shift, const double* rows,
    double* vector
) {
    for (int k = 0; k < 3; ++k) {
        const double lattice = static_cast<double>(shift[0]) * rows[k]
                               + static_cast<double>(shift[1]) * rows[3 + k]
                               + static_cast<double>(shift[2]) * rows[6 + k];
        vector[k] = (positions[3 * j + k] - positions[3 * i + k]) + lattice;
    }
}

struct WrapAtoms {
    const double* positions;
    BinGrid grid;
    double* fractions;
    int64_t* wraps;

    PETMAD_KERNEL void operator()(int64_t i) const {
        for (int k = 0; k < 3; ++k) {
            const double* x = positions + 3 * i;
            const double* axis = grid.reciprocal[k];
            double fraction = x[0] * axis[0] + x[1] * axis[1] + x[2] * axis[2];
            int64_t wrap = 0;
            if (grid.pbc[k]) {
                wrap = static_cast<int64_t>(floor(fraction));
                fraction -= static_cast<double>(wrap);
            }
            fractions[3 * i + k] = fraction;
            wraps[3 * i + k] = wrap;
        }
    }
};

struct BinAtoms {
    const double* fractions;
    BinGrid grid;
    int64_t* bins;
    int64_t* flat;

    PETMAD_KERNEL void operator()(int64_t i) const {
        int64_t index = 0;
        for (int k = 0; k < 3; ++k) {
            const double scale =
                grid.widths[k] > 0.0 ? static_cast<double>(grid.n_bins[k]) / grid.widths[k] : 0.0;
            auto bin = static_cast<int64_t>((fractions[3 * i + k] - grid.lowest[k]) * scale);
            bin = bin < 0 ? 0 : (bin >= grid.n_bins[k] ? grid.n_bins[k] - 1 : bin);
            bins[3 * i + k] = bin;
            index = index * grid.n_bins[k] + bin;
        }
        flat[i] = index;
    }
};

struct Starts {
    const int64_t* ascending;
    int64_t n;
    int64_t* starts;

    PETMAD_KERNEL void operator()(int64_t key) const {
        int64_t low = 0;
        int64_t high = n;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (ascending[middle] < key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        starts[key] = low;
    }
};

/// All edges of one center within one row of bins, handed to a visitor.
struct RowSearch {
    Binned atoms;
    BinGrid grid;

    PETMAD_KERNEL static int64_t floor_divide(int64_t a, int64_t b) {
        return a >= 0 ? a / b : -((-a + b - 1) / b);
    }

    /// Bin and image of the raw index along k; false outside an open direction.
    PETMAD_KERNEL bool fold(int k, int64_t raw, int64_t& bin, int64_t& image) const {
        image = grid.pbc[k] ? floor_divide(raw, grid.n_bins[k]) : 0;
        bin = raw - image * grid.n_bins[k];
        return bin >= 0 && bin < grid.n_bins[k];
    }

    template <typename Visit>
    PETMAD_KERNEL void operator()(int64_t i, int64_t row, const Visit& visit) const {
        const int64_t n_b = 2 * grid.n_range[1] + 1;
        const int64_t* home = atoms.bins + 3 * i;
        int64_t bin[3];
        int64_t image[3];
        if (!fold(0, home[0] + row / n_b - grid.n_range[0], bin[0], image[0])
            || !fold(1, home[1] + row % n_b - grid.n_range[1], bin[1], image[1])) {
            return;
        }
        for (int64_t c = -grid.n_range[2]; c <= grid.n_range[2]; ++c) {
            if (fold(2, home[2] + c, bin[2], image[2])) {
                visit_bin(i, bin, image, visit);
            }
        }
    }

    template <typename Visit>
    PETMAD_KERNEL void
    visit_bin(int64_t i, const int64_t* bin, const int64_t* image, const Visit& visit) const {
        const int64_t flat = (bin[0] * grid.n_bins[1] + bin[1]) * grid.n_bins[2] + bin[2];
        for (int64_t at = atoms.starts[flat]; at < atoms.starts[flat + 1]; ++at) {
            const int64_t j = atoms.order[at];
            int64_t shift[3];
            for (int k = 0; k < 3; ++k) {
                shift[k] = image[k] + atoms.wraps[3 * i + k] - atoms.wraps[3 * j + k];
            }
            if (i == j && shift[0] == 0 && shift[1] == 0 && shift[2] == 0) {
                continue;
            }
            double v[3];
            displacement(atoms.positions, i, j, shift, &grid.rows[0][0], v);
            if (v[0] * v[0] + v[1] * v[1] + v[2] * v[2] <= atoms.cutoff * atoms.cutoff) {
                visit(j, shift);
            }
        }
    }
};

struct CountEdges {
    RowSearch search;
    int64_t n_rows;
    int64_t* counts;

    PETMAD_KERNEL void operator()(int64_t item) const {
        int64_t count = 0;
        search(item / n_rows, item % n_rows, [&](int64_t, const int64_t*) { ++count; });
        counts[item] = count;
    }
};

struct FillEdges {
    RowSearch search;
    int64_t n_rows;
    const int64_t* firsts;
    int64_t* neighbors;
    int64_t* shifts;

    PETMAD_KERNEL void operator()(int64_t item) const {
        int64_t at = firsts[item];
        search(item / n_rows, item % n_rows, [&](int64_t j, const int64_t* shift) {
            neighbors[at] = j;
            for (int k = 0; k < 3; ++k) {
                shifts[3 * at + k] = shift[k];
            }
            ++at;
        });
    }
};

/// An edge's place among its center's is the number of smaller ones: no two are equal.
struct SortEdges {
    EdgeView edges;
    int64_t* neighbors;
    int64_t* shifts;

    PETMAD_KERNEL bool comes_before(int64_t a, int64_t b) const {
        if (edges.neighbors[a] != edges.neighbors[b]) {
            return edges.neighbors[a] < edges.neighbors[b];
        }
        for (int k = 0; k < 3; ++k) {
            if (edges.shifts[3 * a + k] != edges.shifts[3 * b + k]) {
                return edges.shifts[3 * a + k] < edges.shifts[3 * b + k];
            }
        }
        return false;
    }

    PETMAD_KERNEL void operator()(int64_t e) const {
        const int64_t center = edges.centers[e];
        int64_t at = edges.starts[center];
        for (int64_t other = edges.starts[center]; other < edges.starts[center + 1]; ++other) {
            at += comes_before(other, e) ? 1 : 0;
        }
        neighbors[at] = edges.neighbors[e];
        for (int k = 0; k < 3; ++k) {
            shifts[3 * at + k] = edges.shifts[3 * e + k];
        }
    }
};

} // namespace
} // namespace petmad::cuda

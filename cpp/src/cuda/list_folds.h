// What is done with a list: edge vectors, the edges back, and the folds of an edge gradient. Each
// atom gathers from its own edges, so nothing is added atomically.
#pragma once

#include "list_search.h"

namespace petmad::cuda {
namespace {

struct EdgeVectors {
    const double* positions;
    const double* cell;
    EdgeView edges;
    double* vectors;

    PETMAD_KERNEL void operator()(int64_t e) const {
        displacement(
            positions, edges.centers[e], edges.neighbors[e], edges.shifts + 3 * e, cell,
            vectors + 3 * e
        );
    }
};

struct ReverseEdges {
    EdgeView edges;
    int64_t* reverse;

    /// Sign of edge e against (neighbor, -shift of `wanted`).
    PETMAD_KERNEL int compare(int64_t e, int64_t neighbor, int64_t wanted) const {
        if (edges.neighbors[e] != neighbor) {
            return edges.neighbors[e] < neighbor ? -1 : 1;
        }
        for (int k = 0; k < 3; ++k) {
            const int64_t here = edges.shifts[3 * e + k];
            const int64_t there = -edges.shifts[3 * wanted + k];
            if (here != there) {
                return here < there ? -1 : 1;
            }
        }
        return 0;
    }

    PETMAD_KERNEL void operator()(int64_t e) const {
        const int64_t center = edges.neighbors[e];
        reverse[e] = -1;
        if (center >= edges.n_centers) {
            return;
        }
        int64_t low = edges.starts[center];
        int64_t high = edges.starts[center + 1];
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            const int sign = compare(middle, edges.centers[e], e);
            if (sign == 0) {
                reverse[e] = middle;
                return;
            }
            if (sign < 0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
    }
};

struct MatchEdges {
    NodeEdges of;
    double tolerance;
    int64_t* reverse;

    /// First edge in `order` of center `from` to node `to` or beyond.
    PETMAD_KERNEL int64_t first(int64_t from, int64_t to) const {
        int64_t low = of.starts[from];
        int64_t high = of.starts[from + 1];
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (of.nodes[of.order[middle]] < to) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    PETMAD_KERNEL double squared_mismatch(int64_t a, int64_t b) const {
        double sum = 0.0;
        for (int k = 0; k < 3; ++k) {
            const double difference = of.vectors[3 * a + k] + of.vectors[3 * b + k];
            sum += difference * difference;
        }
        return sum;
    }

    PETMAD_KERNEL void operator()(int64_t e) const {
        const int64_t center = of.centers[e];
        const int64_t node = of.nodes[e];
        reverse[e] = -1;
        if (node >= of.n_nodes) {
            return;
        }
        double nearest = tolerance * tolerance;
        for (int64_t at = first(node, center); at < of.starts[node + 1]; ++at) {
            const int64_t back = of.order[at];
            if (of.nodes[back] != center) {
                return;
            }
            const double squared = squared_mismatch(back, e);
            if (squared < nearest) {
                nearest = squared;
                reverse[e] = back;
            }
        }
    }
};

/// Calls term(edge, sign) for the edges of an atom, 32 at a time: +1 of its own, -1 incoming.
template <typename Term>
PETMAD_KERNEL void over_edges(const Incidence& of, int64_t atom, int lane, const Term& term) {
    if (atom < of.n_centers) {
        for (int64_t e = of.starts[atom] + lane; e < of.starts[atom + 1]; e += warp_size) {
            term(e, 1.0);
        }
    }
    for (int64_t at = of.in_starts[atom] + lane; at < of.in_starts[atom + 1]; at += warp_size) {
        term(of.incoming[at], -1.0);
    }
}

struct FoldForces {
    Incidence of;
    const double* gradients;
    double* forces;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t atom) const {
        for (int k = 0; k < 3; ++k) {
            PerLane<double> part;
            warp.lanes([&](int lane) {
                over_edges(of, atom, lane, [&](int64_t e, double sign) {
                    part[lane] += sign * gradients[3 * e + k];
                });
            });
            const double total = warp.sum(part);
            warp.lanes([&](int lane) {
                if (lane == 0) {
                    forces[3 * atom + k] = total;
                }
            });
        }
    }
};

struct FoldVirials {
    Incidence of;
    const double* gradients;
    const double* vectors;
    double* virials;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t atom) const {
        for (int ab = 0; ab < 9; ++ab) {
            PerLane<double> part;
            warp.lanes([&](int lane) {
                over_edges(of, atom, lane, [&](int64_t e, double) {
                    part[lane] -= 0.5 * vectors[3 * e + ab / 3] * gradients[3 * e + ab % 3];
                });
            });
            const double total = warp.sum(part);
            warp.lanes([&](int lane) {
                if (lane == 0) {
                    virials[9 * atom + ab] = total;
                }
            });
        }
    }
};

struct VirialRuns {
    const double* gradients;
    const double* vectors;
    int64_t n;
    int64_t run;
    double* sums;

    PETMAD_KERNEL void operator()(Warp& warp, int64_t item) const {
        const int64_t last = (item + 1) * run < n ? (item + 1) * run : n;
        for (int ab = 0; ab < 9; ++ab) {
            PerLane<double> part;
            warp.lanes([&](int lane) {
                for (int64_t e = item * run + lane; e < last; e += warp_size) {
                    part[lane] -= vectors[3 * e + ab / 3] * gradients[3 * e + ab % 3];
                }
            });
            const double total = warp.sum(part);
            warp.lanes([&](int lane) {
                if (lane == 0) {
                    sums[9 * item + ab] = total;
                }
            });
        }
    }
};

} // namespace
} // namespace petmad::cuda

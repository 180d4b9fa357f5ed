// Both adaptive cutoffs, one warp per center, with the derivative in every distance; the formulas
// and their sources are those of cpu/cutoff_op.cpp.
#pragma once

#include "../bump.h"
#include "kernels.h"
#include "launch.h"

namespace petmad::cuda {
namespace {

struct Solver {
    const double* distances;
    const int64_t* starts;
    SolverAims aims;
    double* cutoffs;
    double* derivatives;

    PETMAD_KERNEL Bump count(Warp& warp, int64_t center, double radius) const {
        PerLane<double> value;
        PerLane<double> slope;
        warp.lanes([&](int lane) {
            for (int64_t e = starts[center] + lane; e < starts[center + 1]; e += warp_size) {
                if (distances[e] <= aims.cutoff && distances[e] < radius) {
                    const Bump one = bump(distances[e], radius, aims.width);
                    value[lane] += one.value;
                    slope[lane] += one.slope;
                }
            }
        });
        const double share = radius / aims.cutoff;
        return {
            warp.sum(value) + aims.n_neighbors * share * share * share,
            warp.sum(slope) + 3.0 * aims.n_neighbors * share * share / aims.cutoff
        };
    }

    PETMAD_KERNEL double search(Warp& warp, int64_t center) const {
        double low = 0.0;
        double high = aims.cutoff;
        double radius = 0.5 * aims.cutoff;
        for (int64_t k = 0; k < aims.iterations; ++k) {
            const Bump found = count(warp, center, radius);
            const double excess = found.value - aims.n_neighbors;
            (excess <= 0.0 ? low : high) = radius;
            const double slope = found.slope > aims.slope_floor ? found.slope : aims.slope_floor;
            const double newton = radius - excess / slope;
            const double next = newton >= low && newton <= high ? newton : 0.5 * (low + high);
            if (next == radius) {
                break; // every further step would repeat this one
            }
            radius = next;
        }
        return radius;
    }

    PETMAD_KERNEL void operator()(Warp& warp, int64_t center) const {
        const double radius = search(warp, center);
        const Bump found = count(warp, center, radius);
        const double slope = found.slope > aims.slope_floor ? found.slope : aims.slope_floor;
        const double last = radius - (found.value - aims.n_neighbors) / slope;
        const double least = aims.cutoff / 16.0;
        const bool is_free = last >= least && last <= aims.cutoff;
        warp.lanes([&](int lane) {
            for (int64_t e = starts[center] + lane; e < starts[center + 1]; e += warp_size) {
                derivatives[e] = is_free && distances[e] <= aims.cutoff
                                     ? bump(distances[e], radius, aims.width).slope / slope
                                     : 0.0;
            }
            if (lane == 0) {
                cutoffs[center] = last < least ? least : (last > aims.cutoff ? aims.cutoff : last);
            }
        });
    }
};

/// Lanes share the probes, then the edges.
struct Grid {
    const double* distances;
    const int64_t* starts;
    GridAims aims;
    double* scratch; ///< [n_centers, 4, n_probes]: excess, spread, weight, dR/d(count)
    double* cutoffs;
    double* derivatives;

    struct Probes {
        double *excess, *spread, *weight, *d_count;
    };

    /// The probes either side, and what their difference is multiplied with.
    struct Difference {
        int64_t left, right;
        double factor;
    };
    PETMAD_KERNEL Difference difference(int64_t p) const {
        const int64_t left = p > 0 ? p - 1 : 0;
        const int64_t right = p + 1 < aims.n_probes ? p + 1 : aims.n_probes - 1;
        return {left, right, right - left == 2 ? 0.5 : 1.0};
    }

    PETMAD_KERNEL double slope_at(const Probes& at, int64_t p) const {
        const Difference d = difference(p);
        return d.factor * (at.excess[d.right] - at.excess[d.left]);
    }

    PETMAD_KERNEL void count(Warp& warp, int64_t center, const Probes& at) const {
        warp.lanes([&](int lane) {
            for (int64_t p = lane; p < aims.n_probes; p += warp_size) {
                double sum = 0.0;
                for (int64_t e = starts[center]; e < starts[center + 1]; ++e) {
                    if (distances[e] <= aims.cutoff && distances[e] < aims.probes[p]) {
                        sum += bump(distances[e], aims.probes[p], aims.width).value;
                    }
                }
                const double t = aims.n_probes > 1 ? static_cast<double>(p)
                                                         / static_cast<double>(aims.n_probes - 1)
                                                   : 0.0;
                at.excess[p] = sum + aims.n_neighbors * (t * t * t - 1.0);
            }
        });
    }

    /// Weights of the probes; their sum is left in `total`.
    PETMAD_KERNEL double weigh(Warp& warp, const Probes& at, double& total) const {
        PerLane<double> high;
        warp.lanes([&](int lane) {
            high[lane] = -INFINITY;
            for (int64_t p = lane; p < aims.n_probes; p += warp_size) {
                const double x = at.excess[p];
                const double slope = fabs(slope_at(at, p));
                at.spread[p] = aims.n_probes == 1 ? 0.5 * fabs(x) + aims.floor
                                                  : (slope > aims.floor ? slope : aims.floor);
                const double z = x / at.spread[p];
                at.weight[p] = -0.5 * z * z;
                high[lane] = at.weight[p] > high[lane] ? at.weight[p] : high[lane];
            }
        });
        const double highest = warp.max(high);
        PerLane<double> sum;
        PerLane<double> moment;
        warp.lanes([&](int lane) {
            for (int64_t p = lane; p < aims.n_probes; p += warp_size) {
                at.weight[p] = exp(at.weight[p] - highest);
                sum[lane] += at.weight[p];
                moment[lane] += at.weight[p] * aims.probes[p];
            }
        });
        total = warp.sum(sum);
        return warp.sum(moment) / total;
    }

    /// What the spread of probe q adds to dR/d(count) per unit of its slope.
    PETMAD_KERNEL double pull(const Probes& at, int64_t q, double radius, double total) const {
        const double slope = slope_at(at, q);
        if (fabs(slope) < aims.floor) {
            return 0.0;
        }
        const double dz = at.weight[q] / total * (aims.probes[q] - radius);
        const double x = at.excess[q];
        const double s = at.spread[q];
        return dz * x * x / (s * s * s) * difference(q).factor * (slope > 0.0 ? 1.0 : -1.0);
    }

    PETMAD_KERNEL void
    differentiate(Warp& warp, const Probes& at, double radius, double total) const {
        warp.lanes([&](int lane) {
            for (int64_t p = lane; p < aims.n_probes; p += warp_size) {
                const double dz = at.weight[p] / total * (aims.probes[p] - radius);
                const double x = at.excess[p];
                const double s = at.spread[p];
                double sum = -dz * x / (s * s);
                if (aims.n_probes == 1) {
                    const double sign = x > 0.0 ? 1.0 : (x < 0.0 ? -1.0 : 0.0);
                    sum += 0.5 * dz * x * x / (s * s * s) * sign;
                } else {
                    for (int64_t q = p > 0 ? p - 1 : 0; q <= p + 1 && q < aims.n_probes; ++q) {
                        const Difference d = difference(q);
                        if (d.right == p) {
                            sum += pull(at, q, radius, total);
                        }
                        if (d.left == p) {
                            sum -= pull(at, q, radius, total);
                        }
                    }
                }
                at.d_count[p] = sum;
            }
        });
    }

    PETMAD_KERNEL void operator()(Warp& warp, int64_t center) const {
        double* mine = scratch + 4 * aims.n_probes * center;
        const Probes at{
            mine, mine + aims.n_probes, mine + 2 * aims.n_probes, mine + 3 * aims.n_probes
        };
        count(warp, center, at);
        double total = 0.0;
        const double radius = weigh(warp, at, total);
        differentiate(warp, at, radius, total);
        warp.lanes([&](int lane) {
            for (int64_t e = starts[center] + lane; e < starts[center + 1]; e += warp_size) {
                double sum = 0.0;
                for (int64_t p = 0; p < aims.n_probes && distances[e] <= aims.cutoff; ++p) {
                    if (distances[e] < aims.probes[p]
                        && aims.probes[p] - aims.width < distances[e]) {
                        sum -= at.d_count[p] * bump(distances[e], aims.probes[p], aims.width).slope;
                    }
                }
                derivatives[e] = sum;
            }
            if (lane == 0) {
                cutoffs[center] = radius;
            }
        });
    }
};

} // namespace
} // namespace petmad::cuda

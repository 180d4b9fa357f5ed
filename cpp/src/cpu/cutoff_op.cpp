// Both adaptive cutoffs center by center; each keeps dR/dr per edge for the backward pass.
#include "cutoff_op.h"

#include <cmath>

#include <torch/csrc/autograd/custom_function.h>

#include "../bump.h"
#include "rows.h"

namespace petmad::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t centers_per_task = 16;

/// Distances from one center, and where the derivatives of its cutoff go.
struct Center {
    const double* distances;
    int64_t n;
    double* derivatives;
};

struct Solver {
    double cutoff, n_neighbors, width;
    int64_t iterations;
    double slope_floor;

    Bump count(const Center& center, double radius) const {
        Bump sum;
        for (int64_t e = 0; e < center.n; ++e) {
            if (center.distances[e] <= cutoff && center.distances[e] < radius) {
                const Bump one = bump(center.distances[e], radius, width);
                sum.value += one.value;
                sum.slope += one.slope;
            }
        }
        const double share = radius / cutoff;
        sum.value += n_neighbors * share * share * share;
        sum.slope += 3.0 * n_neighbors * share * share / cutoff;
        return sum;
    }

    double operator()(const Center& center) const {
        double low = 0.0;
        double high = cutoff;
        double radius = 0.5 * cutoff;
        for (int64_t k = 0; k < iterations; ++k) {
            const Bump found = count(center, radius);
            const double excess = found.value - n_neighbors;
            (excess <= 0.0 ? low : high) = radius;
            const double newton = radius - excess / std::max(found.slope, slope_floor);
            const double next = newton >= low && newton <= high ? newton : 0.5 * (low + high);
            if (next == radius) {
                break; // every further step would repeat this one
            }
            radius = next;
        }
        const Bump found = count(center, radius);
        const double slope = std::max(found.slope, slope_floor);
        const double last = radius - (found.value - n_neighbors) / slope;
        const bool is_free = last >= cutoff / 16.0 && last <= cutoff;
        for (int64_t e = 0; e < center.n; ++e) {
            const double distance = center.distances[e];
            center.derivatives[e] =
                is_free && distance <= cutoff ? bump(distance, radius, width).slope / slope : 0.0;
        }
        return std::min(std::max(last, cutoff / 16.0), cutoff);
    }
};

struct Grid {
    double cutoff;
    const double* probes;
    int64_t n_probes;
    double n_neighbors, width, floor;

    /// Counts of neighbors at each probe, less what is aimed at.
    std::vector<double> excess(const Center& center) const {
        std::vector<double> counts(n_probes, 0.0);
        for (int64_t e = 0; e < center.n; ++e) {
            if (center.distances[e] > cutoff) {
                continue;
            }
            int64_t p = std::upper_bound(probes, probes + n_probes, center.distances[e]) - probes;
            for (; p < n_probes; ++p) {
                counts[p] += bump(center.distances[e], probes[p], width).value;
            }
        }
        for (int64_t p = 0; p < n_probes; ++p) {
            const double t =
                n_probes > 1 ? static_cast<double>(p) / static_cast<double>(n_probes - 1) : 0.0;
            counts[p] += n_neighbors * (t * t * t - 1.0);
        }
        return counts;
    }

    /// Slope of the excess between probes; its probes are `left` and `right`, `factor` apart.
    struct Difference {
        int64_t left, right;
        double factor;
    };
    Difference difference(int64_t p) const {
        const int64_t left = std::max<int64_t>(p - 1, 0);
        const int64_t right = std::min(p + 1, n_probes - 1);
        return {left, right, right - left == 2 ? 0.5 : 1.0};
    }

    double operator()(const Center& center) const {
        const std::vector<double> x = excess(center);
        std::vector<double> slope(n_probes);
        std::vector<double> spread(n_probes);
        std::vector<double> weight(n_probes);
        double highest = -INFINITY;
        for (int64_t p = 0; p < n_probes; ++p) {
            const Difference d = difference(p);
            slope[p] = d.factor * (x[d.right] - x[d.left]);
            spread[p] =
                n_probes == 1 ? 0.5 * std::abs(x[p]) + floor : std::max(std::abs(slope[p]), floor);
            const double z = x[p] / spread[p];
            weight[p] = -0.5 * z * z;
            highest = std::max(highest, weight[p]);
        }
        double sum = 0.0;
        double radius = 0.0;
        for (int64_t p = 0; p < n_probes; ++p) {
            weight[p] = std::exp(weight[p] - highest);
            sum += weight[p];
            radius += weight[p] * probes[p];
        }
        radius /= sum;
        derivatives(center, x, slope, spread, weight, sum, radius);
        return radius;
    }

    /// dR/d(count) at each probe, then dR/dr of each edge.
    void derivatives(
        const Center& center, const std::vector<double>& x, const std::vector<double>& slope,
        const std::vector<double>& spread, const std::vector<double>& weight, double sum,
        double radius
    ) const {
        std::vector<double> d_count(n_probes, 0.0);
        for (int64_t p = 0; p < n_probes; ++p) {
            const double dz = weight[p] / sum * (probes[p] - radius);
            const double s = spread[p];
            d_count[p] -= dz * x[p] / (s * s);
            const double ds = dz * x[p] * x[p] / (s * s * s);
            if (n_probes == 1) {
                d_count[p] += 0.5 * ds * (x[p] > 0.0 ? 1.0 : (x[p] < 0.0 ? -1.0 : 0.0));
            } else if (std::abs(slope[p]) >= floor) {
                const Difference d = difference(p);
                const double change = ds * d.factor * (slope[p] > 0.0 ? 1.0 : -1.0);
                d_count[d.right] += change;
                d_count[d.left] -= change;
            }
        }
        for (int64_t e = 0; e < center.n; ++e) {
            const double distance = center.distances[e];
            double total = 0.0;
            if (distance <= cutoff) {
                int64_t p = std::upper_bound(probes, probes + n_probes, distance) - probes;
                for (; p < n_probes && probes[p] - width < distance; ++p) {
                    total -= d_count[p] * bump(distance, probes[p], width).slope;
                }
            }
            center.derivatives[e] = total;
        }
    }
};

/// Applies a method to every center.
struct CutoffsOfCenters : torch::autograd::Function<CutoffsOfCenters> {
    template <typename Method>
    static Tensor forward(
        AutogradContext* context, const Tensor& distances_, const Tensor& centers_,
        int64_t n_centers, const Method& method
    ) {
        const at::AutoDispatchBelowADInplaceOrView guard;
        const Tensor distances = distances_.detach().contiguous();
        const Tensor centers = centers_.contiguous();
        PETMAD_CHECK(
            distances.scalar_type() == torch::kFloat64 && distances.dim() == 1
                && centers.numel() == distances.numel(),
            "adaptive cutoffs: distances ", distances.sizes(), " of ", distances.scalar_type(),
            " do not fit centers ", centers.sizes(), "; pass one float64 distance per edge"
        );
        const Tensor starts = edge_starts(centers, n_centers);
        const auto* first_edge = in<int64_t>(starts);
        Tensor cutoffs = torch::empty({n_centers}, distances.options());
        Tensor derivatives = torch::empty_like(distances);
        double* cutoff = out<double>(cutoffs);
        double* derivative = out<double>(derivatives);
        at::parallel_for(0, n_centers, centers_per_task, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
                const int64_t begin = first_edge[i];
                cutoff[i] = method(
                    {in<double>(distances) + begin, first_edge[i + 1] - begin, derivative + begin}
                );
            }
        });
        context->save_for_backward({derivatives, centers});
        return cutoffs;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        check_once();
        const variable_list s = context->get_saved_variables();
        return {s[0] * gradients[0].index_select(0, s[1]), Tensor(), Tensor(), Tensor()};
    }
};

} // namespace

Tensor edge_starts(const Tensor& centers_, int64_t n_centers) {
    const Tensor centers = centers_.contiguous();
    const auto* i = in<int64_t>(centers);
    const int64_t n_edges = centers.numel();
    Tensor starts = torch::empty({n_centers + 1}, torch::kInt64);
    auto* start = out<int64_t>(starts);
    int64_t center = 0;
    for (int64_t e = 0; e < n_edges; ++e) {
        PETMAD_CHECK(
            i[e] >= (e > 0 ? i[e - 1] : 0) && i[e] < n_centers, "center of edge ", e, " is ", i[e],
            "; edges must be sorted by center, and centers below ", n_centers
        );
        while (center <= i[e]) {
            start[center++] = e;
        }
    }
    while (center <= n_centers) {
        start[center++] = n_edges;
    }
    return starts;
}

Tensor adaptive_cutoffs_solver(
    const Tensor& distances, const Tensor& centers, int64_t n_centers, double cutoff,
    double n_neighbors, double width, int64_t iterations, double slope_floor
) {
    const Solver solver{cutoff, n_neighbors, width, iterations, slope_floor};
    return CutoffsOfCenters::apply(distances, centers, n_centers, solver);
}

Tensor adaptive_cutoffs_grid(
    const Tensor& distances, const Tensor& centers, int64_t n_centers, double cutoff,
    const Tensor& probes_, double n_neighbors, double width, double floor
) {
    const Tensor probes = probes_.contiguous();
    const Grid grid{cutoff, in<double>(probes), probes.numel(), n_neighbors, width, floor};
    return CutoffsOfCenters::apply(distances, centers, n_centers, grid);
}

} // namespace petmad::cpu

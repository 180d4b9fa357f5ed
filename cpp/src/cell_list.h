// The search itself, on plain pointers: atoms sorted into bins along the lattice directions, and
// the slow search over all pairs and images that judges it. Both hand their finds to a visitor.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "geometry.h"

namespace petmad {

using Shift = std::array<int64_t, 3>;

struct SearchInput {
    const double* positions = nullptr; ///< [n_atoms, 3] Å, finite
    int64_t n_atoms = 0;
    double cutoff = 0.0;
};

/// Bins at least one cutoff wide where the system is wide enough; a bin knows its atoms.
class CellList {
public:
    CellList(const SearchInput& input, const Lattice& lattice) : input_(input), lattice_(lattice) {
        wrap_positions();
        choose_bins();
        sort_atoms();
    }

    /// Calls visit(j, S) for every edge of center i, in the order of the bins.
    template <typename Visit> void visit(int64_t i, Visit&& visit) const {
        const double cutoff2 = input_.cutoff * input_.cutoff;
        const std::array<int64_t, 3> home = bin_of(i);
        std::array<int64_t, 3> low{};
        std::array<int64_t, 3> high{};
        for (int k = 0; k < 3; ++k) {
            low[k] = home[k] - range_[k];
            high[k] = home[k] + range_[k];
            if (!lattice_.pbc[k]) {
                low[k] = std::max<int64_t>(low[k], 0);
                high[k] = std::min<int64_t>(high[k], n_bins_[k] - 1);
            }
        }
        for (int64_t a = low[0]; a <= high[0]; ++a) {
            for (int64_t b = low[1]; b <= high[1]; ++b) {
                for (int64_t c = low[2]; c <= high[2]; ++c) {
                    visit_bin(i, {a, b, c}, cutoff2, visit);
                }
            }
        }
    }

private:
    template <typename Visit>
    void
    visit_bin(int64_t i, const std::array<int64_t, 3>& raw, double cutoff2, Visit&& visit) const {
        std::array<int64_t, 3> bin{};
        Shift image{};
        for (int k = 0; k < 3; ++k) {
            image[k] = floor_divide(raw[k], n_bins_[k]);
            bin[k] = raw[k] - image[k] * n_bins_[k];
        }
        const int64_t flat = flat_index(bin);
        for (int64_t at = starts_[flat]; at < starts_[flat + 1]; ++at) {
            const int64_t j = order_[at];
            Shift shift{};
            for (int k = 0; k < 3; ++k) {
                shift[k] = image[k] + wraps_[i][k] - wraps_[j][k];
            }
            if (i == j && shift == Shift{}) {
                continue;
            }
            const Vec3 vector = displacement(input_.positions, i, j, shift, lattice_.rows);
            if (dot(vector, vector) <= cutoff2) {
                visit(j, shift);
            }
        }
    }

    /// Fractional coordinates in [0, 1) along periodic directions, from the lowest atom along
    /// others.
    void wrap_positions() {
        fractions_.resize(input_.n_atoms);
        wraps_.assign(input_.n_atoms, Shift{});
        Vec3 lowest{};
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            const double* x = input_.positions + 3 * i;
            for (int k = 0; k < 3; ++k) {
                double fraction = dot({x[0], x[1], x[2]}, lattice_.reciprocal[k]);
                if (lattice_.pbc[k]) {
                    wraps_[i][k] = static_cast<int64_t>(std::floor(fraction));
                    fraction -= static_cast<double>(wraps_[i][k]);
                }
                fractions_[i][k] = fraction;
                lowest[k] = i == 0 ? fraction : std::min(lowest[k], fraction);
                widths_[k] = i == 0 ? fraction : std::max(widths_[k], fraction);
            }
        }
        for (int k = 0; k < 3; ++k) {
            widths_[k] = lattice_.pbc[k] ? 1.0 : widths_[k] - lowest[k];
            for (int64_t i = 0; i < input_.n_atoms && !lattice_.pbc[k]; ++i) {
                fractions_[i][k] -= lowest[k];
            }
        }
    }

    void choose_bins() {
        // Empty bins cost memory: no more bins along a direction than this, so that a few atoms in
        // a huge box stay cheap.
        const int64_t n_most =
            2 + 2 * static_cast<int64_t>(std::cbrt(static_cast<double>(input_.n_atoms)));
        for (int k = 0; k < 3; ++k) {
            const double width = widths_[k] * lattice_.heights[k];
            const double n_fitting = std::floor(width / input_.cutoff);
            n_bins_[k] =
                static_cast<int64_t>(std::clamp(n_fitting, 1.0, static_cast<double>(n_most)));
            // One more bin than needed would do no harm; one less would lose edges at bin borders.
            const double reach = input_.cutoff * (1.0 + 1e-9) * static_cast<double>(n_bins_[k]);
            range_[k] = width > 0.0 && (lattice_.pbc[k] || n_bins_[k] > 1)
                            ? static_cast<int64_t>(std::ceil(reach / width + 1e-9))
                            : 0;
        }
    }

    void sort_atoms() {
        starts_.assign(n_bins_[0] * n_bins_[1] * n_bins_[2] + 1, 0);
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            ++starts_[flat_index(bin_of(i)) + 1];
        }
        for (size_t bin = 1; bin < starts_.size(); ++bin) {
            starts_[bin] += starts_[bin - 1];
        }
        std::vector<int64_t> next(starts_.begin(), starts_.end() - 1);
        order_.resize(input_.n_atoms);
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            order_[next[flat_index(bin_of(i))]++] = i;
        }
    }

    std::array<int64_t, 3> bin_of(int64_t i) const {
        std::array<int64_t, 3> bin{};
        for (int k = 0; k < 3; ++k) {
            const double scale =
                widths_[k] > 0.0 ? static_cast<double>(n_bins_[k]) / widths_[k] : 0.0;
            const auto index = static_cast<int64_t>(fractions_[i][k] * scale);
            bin[k] = std::clamp<int64_t>(index, 0, n_bins_[k] - 1);
        }
        return bin;
    }

    int64_t flat_index(const std::array<int64_t, 3>& bin) const {
        return (bin[0] * n_bins_[1] + bin[1]) * n_bins_[2] + bin[2];
    }

    static int64_t floor_divide(int64_t a, int64_t b) {
        return a >= 0 ? a / b : -((-a + b - 1) / b);
    }

    SearchInput input_;
    Lattice lattice_;
    std::vector<Vec3> fractions_;
    std::vector<Shift> wraps_; ///< lattice vectors taken off each atom
    Vec3 widths_{};            ///< fractional extent covered by the bins
    std::array<int64_t, 3> n_bins_{};
    std::array<int64_t, 3> range_{}; ///< bins to look at on either side
    std::vector<int64_t> starts_;
    std::vector<int64_t> order_;
};

/// Looks at every pair and at every image that could be in reach.
class BruteForce {
public:
    BruteForce(const SearchInput& input, const Lattice& lattice)
        : input_(input), lattice_(lattice) {}

    /// Calls visit(j, S) for every edge of center i.
    template <typename Visit> void visit(int64_t i, Visit&& visit) const {
        const double cutoff2 = input_.cutoff * input_.cutoff;
        for (int64_t j = 0; j < input_.n_atoms; ++j) {
            Shift low{};
            Shift high{};
            const Vec3 direct = displacement(input_.positions, i, j, Shift{}, lattice_.rows);
            for (int k = 0; k < 3; ++k) {
                if (lattice_.pbc[k]) {
                    const double fraction = dot(direct, lattice_.reciprocal[k]);
                    const double reach = input_.cutoff / lattice_.heights[k];
                    low[k] = static_cast<int64_t>(std::floor(-reach - fraction));
                    high[k] = static_cast<int64_t>(std::ceil(reach - fraction));
                }
            }
            for (int64_t a = low[0]; a <= high[0]; ++a) {
                for (int64_t b = low[1]; b <= high[1]; ++b) {
                    for (int64_t c = low[2]; c <= high[2]; ++c) {
                        const Shift shift{a, b, c};
                        const Vec3 vector =
                            displacement(input_.positions, i, j, shift, lattice_.rows);
                        if (dot(vector, vector) <= cutoff2 && !(i == j && shift == Shift{})) {
                            visit(j, shift);
                        }
                    }
                }
            }
        }
    }

private:
    SearchInput input_;
    Lattice lattice_;
};

} // namespace petmad

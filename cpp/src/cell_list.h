// The search itself, on plain pointers: atoms sorted into bins along the lattice directions, and
// the slow search over all pairs and images that judges it. Both give their finds as keys.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "geometry.h"
#include "petmad/error.h"

namespace petmad {

using Shift = std::array<int64_t, 3>;

struct SearchInput {
    const double* positions = nullptr; ///< [n_atoms, 3] Å, finite
    int64_t n_atoms = 0;
    double cutoff = 0.0;
};

/// Images an edge may lie away from the cell along a direction, in either sense.
constexpr int64_t most_images = 511;

/// An edge of a known center: its neighbor, and the image counted from the wrapped atoms. Of one
/// center, keys ascend with the neighbor, then with the shift.
struct EdgeKey {
    uint64_t bits;

    static EdgeKey of(int64_t neighbor, const Shift& image) {
        uint64_t bits = static_cast<uint64_t>(neighbor);
        for (const int64_t k : image) {
            bits = bits << 10 | static_cast<uint64_t>(k + most_images);
        }
        return {bits};
    }
    int64_t neighbor() const { return static_cast<int64_t>(bits >> 30); }
    Shift image() const {
        const auto part = [&](int at) {
            return static_cast<int64_t>(bits >> at & 1023) - most_images;
        };
        return {part(20), part(10), part(0)};
    }
    bool operator<(const EdgeKey& other) const { return bits < other.bits; }
};

/// Atoms sorted into bins half a cutoff wide; a bin has its atoms' wrapped positions in a row.
class CellList {
public:
    /// Throws Error: the cell is thinner than 1/500 of the cutoff.
    CellList(const SearchInput& input, const Lattice& lattice) : input_(input), lattice_(lattice) {
        wrap_positions();
        choose_bins();
        sort_atoms();
    }

    /// Appends the edges of center i, in the order of the bins.
    void find(int64_t i, std::vector<EdgeKey>& found) const {
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
        const Vec3 here = wrapped(i);
        Shift image{};
        for (int64_t a = low[0]; a <= high[0]; ++a) {
            image[0] = floor_divide(a, n_bins_[0]);
            for (int64_t b = low[1]; b <= high[1]; ++b) {
                image[1] = floor_divide(b, n_bins_[1]);
                const int64_t row =
                    ((a - image[0] * n_bins_[0]) * n_bins_[1] + (b - image[1] * n_bins_[1]))
                    * n_bins_[2];
                for (int64_t c = low[2]; c <= high[2];) { // bins of one image lie in a row
                    image[2] = floor_divide(c, n_bins_[2]);
                    const int64_t first = c - image[2] * n_bins_[2];
                    const int64_t n = std::min(high[2] - c + 1, n_bins_[2] - first);
                    find_in(i, here, image, starts_[row + first], starts_[row + first + n], found);
                    c += n;
                }
            }
        }
    }

    /// S of an edge that find() gave.
    Shift shift(int64_t i, const EdgeKey& edge) const {
        const Shift image = edge.image();
        const int64_t j = edge.neighbor();
        return {
            image[0] + wraps_[i][0] - wraps_[j][0], image[1] + wraps_[i][1] - wraps_[j][1],
            image[2] + wraps_[i][2] - wraps_[j][2]
        };
    }

private:
    /// Of the atoms first to last of the sorted ones, seen in an image.
    void find_in(
        int64_t i, const Vec3& here, const Shift& image, int64_t first, int64_t last,
        std::vector<EdgeKey>& found
    ) const {
        Vec3 from = here;
        for (int k = 0; k < 3; ++k) {
            from[k] -= image[0] * lattice_.rows[0][k] + image[1] * lattice_.rows[1][k]
                       + image[2] * lattice_.rows[2][k];
        }
        const double cutoff2 = input_.cutoff * input_.cutoff;
        const double beyond = cutoff2 * (1.0 + 1e-6); // wrapped positions are rounded
        for (int64_t at = first; at < last; ++at) {
            const double x = sorted_[3 * at] - from[0];
            const double y = sorted_[3 * at + 1] - from[1];
            const double z = sorted_[3 * at + 2] - from[2];
            if (x * x + y * y + z * z > beyond) {
                continue;
            }
            const EdgeKey edge = EdgeKey::of(order_[at], image);
            const Shift s = shift(i, edge);
            const Vec3 vector = displacement(input_.positions, i, order_[at], s, lattice_.rows);
            if (dot(vector, vector) <= cutoff2 && !(i == order_[at] && s == Shift{})) {
                found.push_back(edge);
            }
        }
    }

    /// Position of an atom within the cell.
    Vec3 wrapped(int64_t i) const {
        Vec3 result{};
        for (int k = 0; k < 3; ++k) {
            result[k] = input_.positions[3 * i + k]
                        - (wraps_[i][0] * lattice_.rows[0][k] + wraps_[i][1] * lattice_.rows[1][k]
                           + wraps_[i][2] * lattice_.rows[2][k]);
        }
        return result;
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
            const double n_fitting = std::floor(2.0 * width / input_.cutoff);
            n_bins_[k] =
                static_cast<int64_t>(std::clamp(n_fitting, 1.0, static_cast<double>(n_most)));
            // One more bin than needed would do no harm; one less would lose edges at bin borders.
            const double reach = input_.cutoff * (1.0 + 1e-9) * static_cast<double>(n_bins_[k]);
            range_[k] = width > 0.0 && (lattice_.pbc[k] || n_bins_[k] > 1)
                            ? static_cast<int64_t>(std::ceil(reach / width + 1e-9))
                            : 0;
            PETMAD_CHECK(
                range_[k] / n_bins_[k] + 1 < most_images, "`cell` is ", lattice_.heights[k],
                " Å thick along row ", k, ", far less than the cutoff of ", input_.cutoff,
                " Å; repeat the cell"
            );
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
        sorted_.resize(3 * input_.n_atoms);
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            const int64_t at = next[flat_index(bin_of(i))]++;
            const Vec3 position = wrapped(i);
            order_[at] = i;
            std::copy(position.begin(), position.end(), sorted_.begin() + 3 * at);
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
    std::vector<double> sorted_; ///< [n_atoms, 3] wrapped positions in this order
};

/// Looks at every pair and at every image that could be in reach.
class BruteForce {
public:
    BruteForce(const SearchInput& input, const Lattice& lattice)
        : input_(input), lattice_(lattice) {}

    /// Appends the edges of center i; throws Error as CellList does.
    void find(int64_t i, std::vector<EdgeKey>& found) const {
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
                            found.push_back(EdgeKey::of(j, near(shift)));
                        }
                    }
                }
            }
        }
    }

    /// S of an edge that find() gave.
    Shift shift(int64_t, const EdgeKey& edge) const { return edge.image(); }

private:
    static const Shift& near(const Shift& shift) {
        for (const int64_t k : shift) {
            PETMAD_CHECK(
                k > -most_images && k < most_images, "a neighbor is ", k,
                " cells away; wrap the atoms into the cell, or search with the cell list"
            );
        }
        return shift;
    }

    SearchInput input_;
    Lattice lattice_;
};

} // namespace petmad

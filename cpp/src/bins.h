// Atoms sorted into bins along the lattice directions.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "geometry.h"
#include "petmad/error.h"
#include "search_input.h"

namespace petmad {

/// Atoms of a bin stand in a row, ascending; their positions are wrapped into the cell.
/// Throws Error: the cell is thinner than 1/500 of the cutoff, more than 2³¹ atoms.
class Bins {
public:
    std::array<int64_t, 3> n_bins{};
    std::array<int64_t, 3> range{}; ///< bins to look at on either side
    std::vector<int64_t> starts;    ///< [all bins + 1] first atom of each
    std::vector<int32_t> atoms;     ///< [n_atoms] sorted
    std::vector<double> x, y, z;    ///< Å, in the same order
    std::vector<Shift> wraps;       ///< lattice vectors taken off atom i; none if all are 0

    Bins(const SearchInput& input, const Lattice& lattice) : input_(input), lattice_(lattice) {
        PETMAD_CHECK(
            input.n_atoms < std::numeric_limits<int32_t>::max(), "there are ", input.n_atoms,
            " atoms; a list takes fewer than 2147483647: divide the system among more ranks"
        );
        measure();
        choose();
        sort();
    }

    Shift wrap(int64_t atom) const { return wraps.empty() ? Shift{} : wraps[atom]; }

    /// After the last atom of a bin that is one of the centers.
    int64_t end_of_centers(int64_t bin, int64_t n_centers) const {
        const auto first = atoms.begin() + starts[bin];
        return std::lower_bound(first, atoms.begin() + starts[bin + 1], n_centers) - atoms.begin();
    }

    int64_t n_all() const { return n_bins[0] * n_bins[1] * n_bins[2]; }

private:
    /// An atom's place in the cell: fractional coordinates, in [0, 1) along periodic directions.
    struct Place {
        Vec3 fraction{};
        Shift wraps{};
    };

    Place place(int64_t i) const {
        const double* at = input_.positions + 3 * i;
        Place result;
        for (int k = 0; k < 3; ++k) {
            result.fraction[k] = dot({at[0], at[1], at[2]}, lattice_.reciprocal[k]);
            if (lattice_.pbc[k]) {
                const double floor = std::floor(result.fraction[k]);
                result.wraps[k] = static_cast<int64_t>(floor);
                result.fraction[k] -= floor;
            }
        }
        return result;
    }

    /// Wraps, and the extent of the atoms along open directions.
    void measure() {
        Vec3 highest{};
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            const Place here = place(i);
            if (wraps.empty() && here.wraps != Shift{}) {
                wraps.assign(input_.n_atoms, Shift{});
            }
            if (!wraps.empty()) {
                wraps[i] = here.wraps;
            }
            for (int k = 0; k < 3; ++k) {
                const double fraction = here.fraction[k];
                lowest_[k] = i == 0 ? fraction : std::min(lowest_[k], fraction);
                highest[k] = i == 0 ? fraction : std::max(highest[k], fraction);
            }
        }
        for (int k = 0; k < 3; ++k) {
            widths_[k] = lattice_.pbc[k] ? 1.0 : highest[k] - lowest_[k];
            lowest_[k] = lattice_.pbc[k] ? 0.0 : lowest_[k];
        }
    }

    /// Å a bin should be wide: with few atoms in a bin the preparation of each costs most, with
    /// many the distances to points out of reach.
    double wanted_width() const {
        constexpr double atoms_per_bin = 32.0;
        const double cell =
            std::abs(dot(lattice_.rows[0], cross(lattice_.rows[1], lattice_.rows[2])));
        const double volume = cell * widths_[0] * widths_[1] * widths_[2];
        const double width =
            std::cbrt(atoms_per_bin * volume / static_cast<double>(input_.n_atoms));
        return std::clamp(width, 0.5 * input_.cutoff, 1.5 * input_.cutoff);
    }

    void choose() {
        // Empty bins cost memory: no more bins along a direction than this, so that a few atoms in
        // a huge box stay cheap.
        const int64_t n_most =
            2 + 2 * static_cast<int64_t>(std::cbrt(static_cast<double>(input_.n_atoms)));
        const double wanted = wanted_width();
        for (int k = 0; k < 3; ++k) {
            const double width = widths_[k] * lattice_.heights[k];
            const double n_fitting = std::floor(width / wanted);
            n_bins[k] =
                static_cast<int64_t>(std::clamp(n_fitting, 1.0, static_cast<double>(n_most)));
            // One more bin than needed would do no harm; one less would lose edges at bin borders.
            const double reach = input_.cutoff * (1.0 + 1e-9) * static_cast<double>(n_bins[k]);
            range[k] = width > 0.0 && (lattice_.pbc[k] || n_bins[k] > 1)
                           ? static_cast<int64_t>(std::ceil(reach / width + 1e-9))
                           : 0;
            PETMAD_CHECK(
                range[k] / n_bins[k] + 1 < most_images, "`cell` is ", lattice_.heights[k],
                " Å thick along row ", k, ", far less than the cutoff of ", input_.cutoff,
                " Å; repeat the cell"
            );
        }
    }

    int64_t bin_of(const Vec3& fraction) const {
        int64_t bin = 0;
        for (int k = 0; k < 3; ++k) {
            const double scale =
                widths_[k] > 0.0 ? static_cast<double>(n_bins[k]) / widths_[k] : 0.0;
            const auto index = static_cast<int64_t>((fraction[k] - lowest_[k]) * scale);
            bin = bin * n_bins[k] + std::clamp<int64_t>(index, 0, n_bins[k] - 1);
        }
        return bin;
    }

    void sort() {
        std::vector<int64_t> bins(input_.n_atoms);
        starts.assign(n_all() + 1, 0);
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            bins[i] = bin_of(place(i).fraction);
            ++starts[bins[i] + 1];
        }
        for (size_t bin = 1; bin < starts.size(); ++bin) {
            starts[bin] += starts[bin - 1];
        }
        std::vector<int64_t> next(starts.begin(), starts.end() - 1);
        atoms.resize(input_.n_atoms);
        for (auto* coordinate : {&x, &y, &z}) {
            coordinate->resize(input_.n_atoms);
        }
        for (int64_t i = 0; i < input_.n_atoms; ++i) {
            const int64_t at = next[bins[i]]++;
            atoms[at] = static_cast<int32_t>(i);
            x[at] = wrapped(i, 0);
            y[at] = wrapped(i, 1);
            z[at] = wrapped(i, 2);
        }
    }

    double wrapped(int64_t i, int k) const {
        const Shift shift = wrap(i);
        return input_.positions[3 * i + k]
               - (shift[0] * lattice_.rows[0][k] + shift[1] * lattice_.rows[1][k]
                  + shift[2] * lattice_.rows[2][k]);
    }

    SearchInput input_;
    Lattice lattice_;
    Vec3 lowest_{}; ///< fractional coordinate of the first bin
    Vec3 widths_{}; ///< fractional extent of all bins
};

} // namespace petmad

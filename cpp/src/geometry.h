// The lattice as the neighbor search sees it: rows, inverse and heights, with the non-periodic
// directions replaced by unit vectors normal to the periodic ones, so that open, slab, wire and
// bulk systems are one case.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "petmad/error.h"

namespace petmad {

/// Å. No crystal repeats itself so soon; a wrong unit is the likely cause, and edges without number
/// the consequence.
constexpr double least_height = 0.05;

/// Å between the vectors of an edge and of its reverse. Two ranks compute them from differently
/// wrapped positions; coordinates of 1e5 Å still agree to 1e-10. Images of one pair differ by a
/// lattice vector.
constexpr double vector_tolerance = 1e-6;

using Vec3 = std::array<double, 3>;

inline double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

inline double norm(const Vec3& a) { return std::sqrt(dot(a, a)); }

inline Vec3 cross(const Vec3& a, const Vec3& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

inline Vec3 scaled(const Vec3& a, double factor) {
    return {a[0] * factor, a[1] * factor, a[2] * factor};
}

/// r_j - r_i + S·cell. Negating S and swapping the atoms negates the result bit by bit, so an edge
/// and its reverse are always on the same side of the cutoff.
inline Vec3 displacement(
    const double* positions, int64_t i, int64_t j, const std::array<int64_t, 3>& shift,
    const std::array<Vec3, 3>& rows
) {
    Vec3 result{};
    for (int k = 0; k < 3; ++k) {
        const double lattice =
            shift[0] * rows[0][k] + shift[1] * rows[1][k] + shift[2] * rows[2][k];
        result[k] = (positions[3 * j + k] - positions[3 * i + k]) + lattice;
    }
    return result;
}

struct Lattice {
    std::array<Vec3, 3> rows{};
    std::array<Vec3, 3> reciprocal{}; ///< fractional coordinate k of x is dot(x, reciprocal[k])
    std::array<double, 3> heights{};  ///< Å between the faces along k
    std::array<bool, 3> pbc{};

    /// Throws Error when the periodic rows do not span a volume.
    Lattice(const double* cell, const std::array<bool, 3>& periodic) : pbc(periodic) {
        for (int k = 0; k < 3; ++k) {
            if (pbc[k]) {
                rows[k] = {cell[3 * k], cell[3 * k + 1], cell[3 * k + 2]};
                PETMAD_CHECK(
                    std::isfinite(norm(rows[k])) && norm(rows[k]) > 0.0, "`cell` row ", k,
                    " is periodic but has length ", norm(rows[k]),
                    "; give a lattice vector in Å or set pbc[", k, "] to false"
                );
            }
        }
        fill_open_rows();
        const double volume = dot(rows[0], cross(rows[1], rows[2]));
        const double box = norm(rows[0]) * norm(rows[1]) * norm(rows[2]);
        PETMAD_CHECK(
            std::abs(volume) > 1e-10 * box,
            "`cell` is singular: its periodic rows span a volume of ", std::abs(volume),
            "; pass linearly independent lattice vectors as rows"
        );
        for (int k = 0; k < 3; ++k) {
            reciprocal[k] = scaled(cross(rows[(k + 1) % 3], rows[(k + 2) % 3]), 1.0 / volume);
            heights[k] = 1.0 / norm(reciprocal[k]);
            PETMAD_CHECK(
                !pbc[k] || heights[k] >= least_height, "`cell` repeats itself after ", heights[k],
                " Å along row ", k, ", less than ", least_height,
                " Å; check its unit, Å, or set pbc[", k, "] to false"
            );
        }
    }

private:
    /// Each open row becomes a unit vector normal to the rows already there.
    void fill_open_rows() {
        std::array<bool, 3> filled = pbc;
        for (int k = 0; k < 3; ++k) {
            if (filled[k]) {
                continue;
            }
            const int a = (k + 1) % 3;
            const int b = (k + 2) % 3;
            if (filled[a] && filled[b]) {
                const Vec3 normal = cross(rows[a], rows[b]);
                PETMAD_CHECK(
                    norm(normal) > 1e-10 * norm(rows[a]) * norm(rows[b]),
                    "`cell` is singular: rows ", a, " and ", b,
                    " are parallel; pass linearly independent lattice vectors as rows"
                );
                rows[k] = scaled(normal, 1.0 / norm(normal));
            } else if (filled[a] || filled[b]) {
                rows[k] = any_normal(rows[filled[a] ? a : b]);
            } else {
                rows[k] = {0.0, 0.0, 0.0};
                rows[k][k] = 1.0;
            }
            filled[k] = true;
        }
    }

    static Vec3 any_normal(const Vec3& row) {
        Vec3 axis{};
        int smallest = 0;
        for (int k = 1; k < 3; ++k) {
            smallest = std::abs(row[k]) < std::abs(row[smallest]) ? k : smallest;
        }
        axis[smallest] = 1.0;
        const Vec3 normal = cross(row, axis);
        return scaled(normal, 1.0 / norm(normal));
    }
};

} // namespace petmad

// What a neighbor search is asked.
#pragma once

#include <array>
#include <cstdint>

namespace petmad {

using Shift = std::array<int64_t, 3>;

struct SearchInput {
    const double* positions = nullptr; ///< [n_atoms, 3] Å, finite
    int64_t n_atoms = 0;
    int64_t n_centers = 0; ///< the first so many atoms have edges
    double cutoff = 0.0;   ///< Å
};

/// S of an edge whose wrapped neighbor is seen in an image.
inline Shift total_shift(const Shift& image, const Shift& center_wrap, const Shift& neighbor_wrap) {
    return {
        image[0] + center_wrap[0] - neighbor_wrap[0], image[1] + center_wrap[1] - neighbor_wrap[1],
        image[2] + center_wrap[2] - neighbor_wrap[2]
    };
}

/// Images an edge may lie away from the cell along a direction, in either sense.
constexpr int64_t most_images = 511;

/// Cell in which a wrapped position is seen, in 30 bits.
class Image {
public:
    Image() : Image(Shift{}) {}
    explicit Image(const Shift& cells) {
        for (const int64_t k : cells) {
            bits_ = bits_ << 10 | static_cast<int32_t>(k + most_images);
        }
    }
    Shift cells() const { return {part(20), part(10), part(0)}; }

private:
    int64_t part(int at) const { return (bits_ >> at & 1023) - most_images; }

    int32_t bits_ = 0;
};

} // namespace petmad

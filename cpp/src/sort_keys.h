// Radix sort of keys (atom << 32 | slot) by their atoms; equal atoms keep their order.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace petmad {

/// Sorts by bits 32 to 32 + n_bits; `other` is scratch.
inline void sort_by_atom(std::vector<uint64_t>& keys, std::vector<uint64_t>& other, int n_bits) {
    constexpr int digit_bits = 10; // counts of two passes fit the first-level cache
    constexpr uint64_t mask = (1 << digit_bits) - 1;
    other.resize(keys.size());
    for (int at = 32; at < 32 + n_bits; at += digit_bits) {
        std::array<int32_t, mask + 1> places{};
        for (const uint64_t key : keys) {
            ++places[key >> at & mask];
        }
        int32_t before = 0;
        for (int32_t& place : places) {
            const int32_t count = place;
            place = before;
            before += count;
        }
        for (const uint64_t key : keys) {
            other[places[key >> at & mask]++] = key;
        }
        keys.swap(other);
    }
}

} // namespace petmad

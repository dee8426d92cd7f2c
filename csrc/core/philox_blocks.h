// Many Philox blocks at a time with the vector instructions of this process; the same words as philox_columns gives.
#pragma once

#include <cstdint>

namespace softbellman::cpu {

// Blocks go through in groups of so many: the arrays below have room for a multiple of it, and what lies behind `count` is
// read and written without meaning.
constexpr std::int64_t kPhiloxGroup = 32;

constexpr std::int64_t round_to_philox_group(std::int64_t count) {
    return (count + kPhiloxGroup - 1) / kPhiloxGroup * kPhiloxGroup;
}

// Block index[k] of row row[k]: words 0 and 1 in first[k], words 2 and 3 in second[k], the earlier one in the lower half.
void philox_blocks(const std::uint32_t* index, const std::uint32_t* row, std::int64_t count, std::uint64_t seed,
                   std::uint64_t offset, std::uint64_t* first, std::uint64_t* second);

}  // namespace softbellman::cpu

// Philox4x32-10: a counter-based generator. Four 32-bit numbers are a pure function of (counter, key), so a draw depends on
// the seed, the offset, the row and the column alone: never on the device, the grid, or the number of threads.
#pragma once

#include "core/portability.h"

namespace softbellman {

constexpr uint32_t kPhiloxMultiplierEven = 0xD2511F53u;
constexpr uint32_t kPhiloxMultiplierOdd = 0xCD9E8D57u;
constexpr uint32_t kPhiloxKeyStepLow = 0x9E3779B9u;
constexpr uint32_t kPhiloxKeyStepHigh = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

struct PhiloxBlock {
    uint32_t word[4];
};

// Upper half of a 32-bit product. Written apart from the lower half: vectorisers know both forms, but not their union.
SB_INLINE uint32_t multiply_high(uint32_t a, uint32_t b) {
    return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

SB_INLINE PhiloxBlock philox_round(PhiloxBlock c, uint32_t key_low, uint32_t key_high) {
    PhiloxBlock next;
    next.word[0] = multiply_high(kPhiloxMultiplierOdd, c.word[2]) ^ c.word[1] ^ key_low;
    next.word[1] = kPhiloxMultiplierOdd * c.word[2];
    next.word[2] = multiply_high(kPhiloxMultiplierEven, c.word[0]) ^ c.word[3] ^ key_high;
    next.word[3] = kPhiloxMultiplierEven * c.word[0];
    return next;
}

SB_INLINE PhiloxBlock philox(PhiloxBlock counter, uint32_t key_low, uint32_t key_high) {
    for (int round = 0; round < kPhiloxRounds; ++round) {
        counter = philox_round(counter, key_low + static_cast<uint32_t>(round) * kPhiloxKeyStepLow,
                               key_high + static_cast<uint32_t>(round) * kPhiloxKeyStepHigh);
    }
    return counter;
}

// Which noise a call draws. Seed and offset may lie in memory, from where a captured graph reads them anew at every replay.
struct NoiseStream {
    uint64_t seed, offset;
    uint64_t row_base;                    // number of the first row
    const uint64_t *seed_at, *offset_at;  // null: the values above
    const int64_t* row_numbers;           // [rows]; null: counted from row_base

    SB_INLINE uint64_t row(int64_t n) const {
        return row_numbers != nullptr ? static_cast<uint64_t>(row_numbers[n]) : row_base + static_cast<uint64_t>(n);
    }
    SB_INLINE NoiseStream read() const {
        NoiseStream now = *this;
        if (seed_at != nullptr) now.seed = *seed_at;
        if (offset_at != nullptr) now.offset = *offset_at;
        return now;
    }
};

// The block that serves columns 4*quad .. 4*quad+3 of a row; column w takes word w % 4. Rows count modulo 2^32.
SB_INLINE PhiloxBlock philox_columns(uint32_t quad, uint64_t row, uint64_t seed, uint64_t offset) {
    const PhiloxBlock counter{
        {quad, static_cast<uint32_t>(row), static_cast<uint32_t>(offset), static_cast<uint32_t>(offset >> 32)}};
    return philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace softbellman

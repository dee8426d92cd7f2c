// A counter word sits in the lower half of a 64-bit lane: one widening product then gives both halves that a round needs,
// where vectors of 32-bit words need four products, and the upper halves carry what nobody reads. Written with intrinsics,
// as no compiler derives that product from plain code.
#include "core/philox_blocks.h"

#include "core/philox.h"
#include "core/simd.h"

#if SB_X86_DISPATCH
#include <immintrin.h>
#endif

namespace softbellman::cpu {
namespace {

struct Keys {
    std::uint32_t low[kPhiloxRounds], high[kPhiloxRounds];
    std::uint32_t offset_low, offset_high;
    Keys(std::uint64_t seed, std::uint64_t offset)
        : offset_low(static_cast<std::uint32_t>(offset)), offset_high(static_cast<std::uint32_t>(offset >> 32)) {
        for (int round = 0; round < kPhiloxRounds; ++round) {
            low[round] = static_cast<std::uint32_t>(seed) + static_cast<std::uint32_t>(round) * kPhiloxKeyStepLow;
            high[round] = static_cast<std::uint32_t>(seed >> 32) + static_cast<std::uint32_t>(round) * kPhiloxKeyStepHigh;
        }
    }
};

#if SB_X86_DISPATCH

constexpr __mmask8 kAll = 0xff;  // gcc warns of the forms without a mask

// kVectors vectors of 8 counters side by side hide the latency of the products.
template <int kVectors>
SB_TARGET_AVX512 inline void group_avx512(const std::uint32_t* index, const std::uint32_t* row, const Keys& keys,
                                          std::uint64_t* first, std::uint64_t* second) {
    const __m512i even = _mm512_set1_epi64(kPhiloxMultiplierEven), odd = _mm512_set1_epi64(kPhiloxMultiplierOdd);
    __m512i c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        c0[v] = _mm512_maskz_cvtepu32_epi64(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + 8 * v)));
        c1[v] = _mm512_maskz_cvtepu32_epi64(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 8 * v)));
        c2[v] = _mm512_set1_epi64(keys.offset_low);
        c3[v] = _mm512_set1_epi64(keys.offset_high);
    }
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const __m512i low = _mm512_set1_epi64(keys.low[round]), high = _mm512_set1_epi64(keys.high[round]);
        for (int v = 0; v < kVectors; ++v) {
            const __m512i p0 = _mm512_maskz_mul_epu32(kAll, c0[v], even), p2 = _mm512_maskz_mul_epu32(kAll, c2[v], odd);
            // 0x96: the exclusive or of three
            c0[v] = _mm512_ternarylogic_epi64(_mm512_maskz_srli_epi64(kAll, p2, 32), c1[v], low, 0x96);
            c2[v] = _mm512_ternarylogic_epi64(_mm512_maskz_srli_epi64(kAll, p0, 32), c3[v], high, 0x96);
            c1[v] = p2;
            c3[v] = p0;
        }
    }
    const __m512i lower = _mm512_set1_epi64(0xffffffff);
    for (int v = 0; v < kVectors; ++v) {
        // 0xea: (a & b) | c
        _mm512_storeu_si512(first + 8 * v,
                            _mm512_ternarylogic_epi64(c0[v], lower, _mm512_maskz_slli_epi64(kAll, c1[v], 32), 0xea));
        _mm512_storeu_si512(second + 8 * v,
                            _mm512_ternarylogic_epi64(c2[v], lower, _mm512_maskz_slli_epi64(kAll, c3[v], 32), 0xea));
    }
}

SB_TARGET_AVX512 void blocks_avx512(const std::uint32_t* index, const std::uint32_t* row, std::int64_t count,
                                    const Keys& keys, std::uint64_t* first, std::uint64_t* second) {
    std::int64_t k = 0;
    for (; k + 16 < count; k += 32) group_avx512<4>(index + k, row + k, keys, first + k, second + k);
    for (; k < count; k += 8) group_avx512<1>(index + k, row + k, keys, first + k, second + k);
}

template <int kVectors>
SB_TARGET_AVX2 inline void group_avx2(const std::uint32_t* index, const std::uint32_t* row, const Keys& keys,
                                      std::uint64_t* first, std::uint64_t* second) {
    const __m256i even = _mm256_set1_epi64x(kPhiloxMultiplierEven), odd = _mm256_set1_epi64x(kPhiloxMultiplierOdd);
    __m256i c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        c0[v] = _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(index + 4 * v)));
        c1[v] = _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 4 * v)));
        c2[v] = _mm256_set1_epi64x(keys.offset_low);
        c3[v] = _mm256_set1_epi64x(keys.offset_high);
    }
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const __m256i low = _mm256_set1_epi64x(keys.low[round]), high = _mm256_set1_epi64x(keys.high[round]);
        for (int v = 0; v < kVectors; ++v) {
            const __m256i p0 = _mm256_mul_epu32(c0[v], even), p2 = _mm256_mul_epu32(c2[v], odd);
            c0[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p2, 32), c1[v]), low);
            c2[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[v]), high);
            c1[v] = p2;
            c3[v] = p0;
        }
    }
    for (int v = 0; v < kVectors; ++v) {
        // The lower halves of c0 and c2, the lower halves of c1 and c3 moved up: lanes 1, 3, 5, 7 from the second.
        const __m256i low = _mm256_blend_epi32(c0[v], _mm256_slli_epi64(c1[v], 32), 0xaa);
        const __m256i high = _mm256_blend_epi32(c2[v], _mm256_slli_epi64(c3[v], 32), 0xaa);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(first + 4 * v), low);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(second + 4 * v), high);
    }
}

SB_TARGET_AVX2 void blocks_avx2(const std::uint32_t* index, const std::uint32_t* row, std::int64_t count, const Keys& keys,
                                std::uint64_t* first, std::uint64_t* second) {
    std::int64_t k = 0;
    for (; k + 4 < count; k += 8) group_avx2<2>(index + k, row + k, keys, first + k, second + k);
    for (; k < count; k += 4) group_avx2<1>(index + k, row + k, keys, first + k, second + k);
}

#endif

}  // namespace

void philox_blocks(const std::uint32_t* index, const std::uint32_t* row, std::int64_t count, std::uint64_t seed,
                   std::uint64_t offset, std::uint64_t* first, std::uint64_t* second) {
#if SB_X86_DISPATCH
    if (simd_level() == SimdLevel::kAvx512) return blocks_avx512(index, row, count, Keys(seed, offset), first, second);
    if (simd_level() == SimdLevel::kAvx2) return blocks_avx2(index, row, count, Keys(seed, offset), first, second);
#endif
    for (std::int64_t k = 0; k < count; ++k) {
        const PhiloxBlock block = philox_columns(index[k], row[k], seed, offset);
        first[k] = static_cast<std::uint64_t>(block.word[1]) << 32 | block.word[0];
        second[k] = static_cast<std::uint64_t>(block.word[3]) << 32 | block.word[2];
    }
}

}  // namespace softbellman::cpu

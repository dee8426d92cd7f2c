// exp(scale * x) as a polynomial that the compiler turns into vector code, in float32 and float64.
//
// float32: exp(scale x) = 2^y, y = x scale / log 2 = n + r with n an integer and |r| <= 1/2, hence 2^n p(r). p is the
// polynomial of degree 6 with p(0) = 1 that is nearest to 2^r, within 0.03 units in the last place. y must not be rounded:
// with fused multiply-add r is the exact rest of the product, and the low part of scale / log 2 follows; without, the
// leading halves of both factors have an exact product, and the other three follow. float64: exp(y) = 2^n exp(r), |r| <=
// log(2) / 2. Measured errors: docs/native.md and benchmarks/exponential.py. Nothing here survives -ffast-math.
#pragma once

#include "core/portability.h"

namespace softbellman::cpu {

// kFused says whether the code around is compiled for a processor with fused multiply-add, and may be contracted to it.
template <class A, bool kFused>
struct ScaledExp;

// Below this an exponential is 0.
template <class A>
constexpr A kNegligible = sizeof(A) == 4 ? A(-87) : A(-709);

template <bool kFused>
struct ScaledExp<float, kFused> {
    float scale_whole, scale_high, scale_low;  // of scale / log 2: rounded, its leading part, the rest

    SB_INLINE explicit ScaledExp(double scale)
        : scale_whole(static_cast<float>(scale * 1.4426950408889634)),
          scale_high(kFused ? scale_whole : leading_half(scale_whole)),
          scale_low(static_cast<float>(scale * 1.4426950408889634 - static_cast<double>(scale_high))) {}

    // The leading 12 of 24 bits, so that products of two are exact.
    static SB_INLINE float leading_half(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) & 0xfffff000u); }

    // x scale / log 2 - n
    SB_INLINE float rest(float x, float n) const {
        if constexpr (kFused) return (x * scale_high - n) + x * scale_low;
        const float leading = leading_half(x);
        return ((leading * scale_high - n) + (x - leading) * scale_high) + x * scale_low;
    }

    // For scale * x below 88. Below -86.6 the result is 0; -inf gives 0, NaN gives NaN.
    SB_INLINE float operator()(float x) const {
        // 1.5 * 2^23 + 127: adding it rounds to an integer, kept in the low bits together with the bias of the exponent.
        constexpr float kRound = 12583039.0f;
        const float shifted = x * scale_whole + kRound;
        const float n = shifted - kRound;
        const float r = rest(x, n);
        float p = 0x1.4173c6p-13f;
        p = p * r + 0x1.5f0988p-10f;
        p = p * r + 0x1.3b2ddap-7f;
        p = p * r + 0x1.c6af7ap-5f;
        p = p * r + 0x1.ebfbdcp-3f;
        p = p * r + 0x1.62e430p-1f;
        p = p * r + 1.0f;
        const float power = bit_cast<float>(bit_cast<uint32_t>(shifted) << 23);
        return shifted < kRound - 125.0f ? 0.0f : p * power;
    }
};

template <bool kFused>
struct ScaledExp<double, kFused> {
    double scale_high, scale_log2;

    SB_INLINE explicit ScaledExp(double scale) : scale_high(scale), scale_log2(scale * 1.4426950408889634) {}

    SB_INLINE double operator()(double x) const {
        constexpr double kRound = 6755399441055744.0;             // 1.5 * 2^52
        constexpr double kLog2High = 6.93147180369123816490e-01;  // 33 bits
        constexpr double kLog2Low = 1.90821492927058770002e-10;
        const double binary = x * scale_log2;
        const double shifted = binary + kRound;
        const double n = shifted - kRound;
        const double r = (x * scale_high - n * kLog2High) - n * kLog2Low;
        double p = 1.0 / 6227020800.0;  // 1/13!
        p = p * r + 1.0 / 479001600.0;
        p = p * r + 1.0 / 39916800.0;
        p = p * r + 1.0 / 3628800.0;
        p = p * r + 1.0 / 362880.0;
        p = p * r + 1.0 / 40320.0;
        p = p * r + 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = (p * r) * r + r + 1.0;
        const double power = bit_cast<double>((bit_cast<uint64_t>(shifted) << 52) + 0x3ff0000000000000ull);
        return binary < -1021.0 ? 0.0 : p * power;
    }
};

}  // namespace softbellman::cpu

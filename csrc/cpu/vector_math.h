// exp(scale * x) as a polynomial that the compiler turns into vector code, in float32 and float64.
//
// exp(y) = 2^n exp(r), n = round(y / log 2), |r| <= log(2) / 2: within 1.1 units in the last place of exp of the rounded
// y = scale * x. That rounding moves a weight by |y| half-units, hence a sum of exp(-|y|) by less than one. The rounding of
// `scale` itself, the same for a whole row, is carried along as scale_low. Nothing here survives -ffast-math.
#pragma once

#include "../common/portability.h"

namespace softbellman::cpu {

template <class A>
struct ScaledExp;

template <>
struct ScaledExp<float> {
    float scale_high, scale_low, scale_log2;

    SB_INLINE explicit ScaledExp(double scale)
        : scale_high(static_cast<float>(scale)),
          scale_low(static_cast<float>(scale - static_cast<double>(scale_high))),
          scale_log2(static_cast<float>(scale * 1.4426950408889634)) {}

    // For scale * x below 88. Below -86.6 the result is 0; -inf gives 0, NaN gives NaN.
    SB_INLINE float operator()(float x) const {
        constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
        constexpr float kLog2High = 0.693138122558593750f;  // 15 bits, so that n * kLog2High is exact
        constexpr float kLog2Low = 9.05800061445916e-06f;
        const float binary = x * scale_log2;
        const float shifted = binary + kRound;
        const float n = shifted - kRound;
        const float r = (x * scale_high - n * kLog2High) + (x * scale_low - n * kLog2Low);
        float p = 0.001395033672451973f;
        p = p * r + 0.008368821814656258f;
        p = p * r + 0.04166620969772339f;
        p = p * r + 0.1666651964187622f;
        p = p * r + 0.5f;
        p = (p * r) * r + r + 1.0f;
        const float power = bit_cast<float>((bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
        return binary < -125.0f ? 0.0f : p * power;
    }
};

template <>
struct ScaledExp<double> {
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

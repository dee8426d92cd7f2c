// Standard Gumbel noise from 32 random bits, in float32 and with the same bits on every processor: only exact integer steps,
// single-rounded sums and products (exact_add, exact_multiply), no library function and no fused multiply-add.
//
// With w in (0, 1) uniform, -log(1 - w) is exponential and -log of that is Gumbel. Small w keep their full relative
// precision through the first logarithm, so the upper tail, which decides the draw, reaches 22.87 without visible steps.
#pragma once

#include "core/portability.h"

namespace softbellman {

// No noise exceeds this: an element that trails the best score by more cannot win.
constexpr float kLargestGumbel = 22.875f;

// log(1 + fraction) + exponent * log(2) for fraction in [sqrt(1/2) - 1, sqrt(2) - 1]; minimax cubic-and-higher part.
SB_INLINE float log_polynomial(float fraction, float exponent) {
    const float square = exact_multiply(fraction, fraction);
    float p = -0.0786677002906799316f;
    p = exact_add(exact_multiply(p, fraction), 0.128810435533523560f);
    p = exact_add(exact_multiply(p, fraction), -0.131256416440010071f);
    p = exact_add(exact_multiply(p, fraction), 0.141811862587928772f);
    p = exact_add(exact_multiply(p, fraction), -0.166249141097068787f);
    p = exact_add(exact_multiply(p, fraction), 0.200022906064987183f);
    p = exact_add(exact_multiply(p, fraction), -0.250007987022399902f);
    p = exact_add(exact_multiply(p, fraction), 0.333333164453506470f);
    p = exact_multiply(exact_multiply(p, fraction), square);
    p = exact_add(p, exact_multiply(exponent, 9.05800061445916e-06f));  // log(2) less its upper 15 bits
    p = exact_add(p, exact_multiply(-0.5f, square));
    p = exact_add(p, fraction);
    return exact_add(p, exact_multiply(exponent, 0.693138122558593750f));  // the upper 15 bits: a product with no rounding
}

// Splits a positive normal x into 2^exponent * (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)).
struct LogParts {
    float fraction;
    float exponent;
};

SB_INLINE LogParts log_parts(float x) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    const uint32_t shifted = bits - 0x3f3504f3u;  // the bits of sqrt(1/2)
    const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
    const float mantissa = bit_cast<float>((shifted & 0x007fffffu) + 0x3f3504f3u);
    return {exact_add(mantissa, -1.0f), static_cast<float>(exponent)};
}

SB_INLINE float gumbel_from_bits(uint32_t random) {
    // (random + 1/2) / 2^32 rounded to float, by two halves that convert exactly; at most the largest float below 1.
    const float high = exact_multiply(static_cast<float>(static_cast<int32_t>(random >> 16)), 65536.0f);
    const float whole = exact_add(high, exact_add(static_cast<float>(static_cast<int32_t>(random & 0xffffu)), 0.5f));
    const float scaled = exact_multiply(whole, 2.3283064365386963e-10f);
    const float largest = 0.999999940395355225f;
    const float w = scaled < largest ? scaled : largest;

    const LogParts rest = log_parts(exact_add(1.0f, -w));
    // Below 1/4 take -w itself, which is exact where 1 - w would round. Selected by bits: with a condition the compiler
    // evaluates the polynomial once for either side.
    const uint32_t small = w < 0.25f ? 0xffffffffu : 0u;
    const float fraction = bit_cast<float>((bit_cast<uint32_t>(-w) & small) | (bit_cast<uint32_t>(rest.fraction) & ~small));
    const float exponent = bit_cast<float>(bit_cast<uint32_t>(rest.exponent) & ~small);
    const float survival = log_polynomial(fraction, exponent);
    const LogParts outer = log_parts(-survival);
    return -log_polynomial(outer.fraction, outer.exponent);
}

// No less than gumbel_from_bits(r) for every r >= random: with w >= random / 2^32, G <= -log w, and log2(random) is at least
// its integer part. The last term covers every rounding.
SB_INLINE float largest_gumbel_from(uint32_t random) {
    int leading = 0;
    while (leading < 32 && (random & (0x80000000u >> leading)) == 0u) ++leading;
    return 0.693147181f * static_cast<float>(leading + 1) + 1e-3f;
}

// The score whose argmax over the allowed columns is a draw from softmax(logits / temperature).
SB_INLINE float gumbel_score(float logit, float inverse_temperature, float gumbel) {
    return exact_add(exact_multiply(logit, inverse_temperature), gumbel);
}

}  // namespace softbellman

// What host and device code share before any mathematics: qualifiers, 16-bit floating types without a framework's header,
// accumulator types, exact bit casts, and arithmetic that no compiler may contract into a fused multiply-add.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/rows.h"

#if defined(__CUDACC__)
#define SB_HD __host__ __device__
#else
#define SB_HD
#endif

#if defined(_MSC_VER)
#define SB_INLINE SB_HD __forceinline
#else
#define SB_INLINE SB_HD inline __attribute__((always_inline))
#endif

namespace softbellman {

template <class To, class From>
SB_INLINE To bit_cast(From value) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
    To result;
    memcpy(&result, &value, sizeof(To));
    return result;
}

// `factor` where the weight is not zero, else 0: an impossible action adds nothing, whatever its value. Selected by bits:
// with a condition the compiler branches around masked products.
SB_INLINE float unless_zero(float weight, float factor) {
    const uint32_t possible = weight == 0.0f ? 0u : ~0u;
    return bit_cast<float>(bit_cast<uint32_t>(factor) & possible);
}
SB_INLINE double unless_zero(double weight, double factor) {
    const uint64_t possible = weight == 0.0 ? 0u : ~uint64_t{0};
    return bit_cast<double>(bit_cast<uint64_t>(factor) & possible);
}

// Products and sums rounded once each, so that every processor gives the same bits. The host translation units that promise
// equal bits are compiled with -ffp-contract=off; on the device the _rn intrinsics forbid the contraction.
SB_INLINE float exact_multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

SB_INLINE float exact_add(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

template <class A>
SB_INLINE A infinity() {
    return static_cast<A>(INFINITY);  // a macro: the device may not call std::numeric_limits
}

struct BFloat16 {
    uint16_t bits;
};

struct Float16 {
    uint16_t bits;
};

// The type statistics are kept in: float64 for float64 data, float32 for everything else.
template <class T>
struct AccumulatorOf {
    using type = float;
};
template <>
struct AccumulatorOf<double> {
    using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

SB_INLINE float to_accumulator(float value) {
    return value;
}
SB_INLINE double to_accumulator(double value) {
    return value;
}
SB_INLINE float to_accumulator(BFloat16 value) {
    return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

SB_INLINE float to_accumulator(Float16 value) {
#if defined(__CUDA_ARCH__)
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
#else
    // Branch-free, hence vectorisable: rebias the exponent, once more for infinities and NaN; subnormals are renormalised by
    // an exact subtraction, which works even when the processor flushes subnormals to zero.
    const uint32_t magnitude = (static_cast<uint32_t>(value.bits) & 0x7fffu) << 13;
    const uint32_t exponent = magnitude & 0x0f800000u;
    const uint32_t sign = (static_cast<uint32_t>(value.bits) & 0x8000u) << 16;
    const uint32_t rebias = exponent == 0x0f800000u ? 0x70000000u : 0x38000000u;
    const float subnormal = bit_cast<float>(magnitude + 0x38800000u) - bit_cast<float>(0x38800000u);
    const uint32_t bits = exponent == 0u ? bit_cast<uint32_t>(subnormal) : magnitude + rebias;
    return bit_cast<float>(bits | sign);
#endif
}

// Rounds to nearest even; a NaN stays a quiet NaN.
template <class T>
SB_INLINE T from_accumulator(Accumulator<T> value);

template <>
SB_INLINE float from_accumulator<float>(float value) {
    return value;
}
template <>
SB_INLINE double from_accumulator<double>(double value) {
    return value;
}

template <>
SB_INLINE BFloat16 from_accumulator<BFloat16>(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    BFloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    const uint32_t bits = bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return BFloat16{static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded)};
#endif
}

template <>
SB_INLINE Float16 from_accumulator<Float16>(float value) {
#if defined(__CUDA_ARCH__)
    Float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    const uint32_t bits = bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    // Normal results: rebias and round the 13 dropped bits to nearest even. A carry into the exponent is the right answer.
    const uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal results: adding 0.5 places the rounding position at the last bit of a float16 subnormal.
    const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t result = magnitude >= 0x477ff000u ? overflow : finite;
    return Float16{static_cast<uint16_t>(result | sign)};
#endif
}

// The library's exponential and logarithm in the accumulator's precision. The CPU kernels use their own vector forms.
SB_INLINE float exponential(float x) {
    return ::expf(x);
}
SB_INLINE double exponential(double x) {
    return ::exp(x);
}
SB_INLINE float logarithm(float x) {
    return ::logf(x);
}
SB_INLINE double logarithm(double x) {
    return ::log(x);
}
SB_INLINE float square_root(float x) {
    return ::sqrtf(x);
}
SB_INLINE double square_root(double x) {
    return ::sqrt(x);
}

}  // namespace softbellman

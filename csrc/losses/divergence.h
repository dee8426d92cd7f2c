// Divergences of two distributions over the vocabulary, p = softmax(logits / temperature) and o = softmax(other /
// other_temperature): KL(o || p), KL(p || o), and beta KL(o || m) + (1 - beta) KL(p || m) with m = beta o + (1 - beta) p.
//
// Kernels know two distributions, `first` and `second`: KL(first || second), or the divergence from the mixture beta first +
// (1 - beta) second with beta <= 1/2, which may exchange the two. Each term of a sum is at least 0 and has its own digits:
//   first log(first / second) - first + second = first h(d),  h(d) = e^-d - 1 + d,  d = log(first / second),
//   beta first log(first / m) + (1 - beta) second log(second / m) = beta first h(d) - m h(log(m / second)),
// where h(d), about d^2 / 2, is a polynomial for small d. A wrong normaliser enters with its square.
#pragma once

#include "core/device.h"
#include "core/portability.h"
#include "core/rows.h"

namespace softbellman {

enum DivergenceKind : int { kForwardKl = 0, kReverseKl = 1, kJensenShannon = 2 };

// `log_normalizer` is temperature * log sum_w exp(logits / temperature), in the unit of the logits, `correction` what the
// weights exp((logits - log_normalizer) / temperature) of its row have to be multiplied by, since it is rounded.
// `mixture_divergence` is KL(second || m), `second` as below: of the logits where beta <= 1/2, else of other; 0 for the
// other kinds.
struct DivergenceForward {
    Rows shape;
    Matrix logits, other;
    int kind = kForwardKl;
    double beta = 0.5, temperature = 1.0, other_temperature = 1.0;
    void* divergence = nullptr;
    void *log_normalizer = nullptr, *correction = nullptr;
    void *other_log_normalizer = nullptr, *other_correction = nullptr;
    void* mixture_divergence = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.matrix("other", other);
        fields.integer("kind", kind, kForwardKl, kJensenShannon);
        fields.positive("beta", beta);
        fields.rule(beta < 1.0, "beta must be below 1");
        fields.temperature("temperature", temperature);
        fields.temperature("other_temperature", other_temperature);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.number("divergence", divergence);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.number("other_log_normalizer", other_log_normalizer);
        fields.number("other_correction", other_correction);
        fields.number("mixture_divergence", mixture_divergence);
    }
};

// A gradient without a place to go to is not computed. An infinite divergence has none: zeros are given.
struct DivergenceBackward {
    Rows shape;
    Matrix logits, other;
    int kind = kForwardKl;
    double beta = 0.5, temperature = 1.0, other_temperature = 1.0;
    const void* divergence = nullptr;
    const void *log_normalizer = nullptr, *correction = nullptr;
    const void *other_log_normalizer = nullptr, *other_correction = nullptr;
    const void *mixture_divergence = nullptr, *grad_divergence = nullptr;
    MutableMatrix grad_logits, grad_other;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.matrix("other", other);
        fields.integer("kind", kind, kForwardKl, kJensenShannon);
        fields.positive("beta", beta);
        fields.rule(beta < 1.0, "beta must be below 1");
        fields.temperature("temperature", temperature);
        fields.temperature("other_temperature", other_temperature);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.number("divergence", divergence);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.number("other_log_normalizer", other_log_normalizer);
        fields.number("other_correction", other_correction);
        fields.number("mixture_divergence", mixture_divergence);
        fields.number("grad_divergence", grad_divergence);
        fields.optional_matrix("grad_logits", grad_logits);
        fields.optional_matrix("grad_other", grad_other);
    }
};

namespace cpu {
void divergence_forward(const DivergenceForward& in, int threads);
void divergence_backward(const DivergenceBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void divergence_forward(const DivergenceForward& in, const Launch& launch);
void divergence_backward(const DivergenceBackward& in, const Launch& launch);
}  // namespace cuda

// Which of the two is `first`, and its weight in the mixture.
inline bool other_is_first(int kind, double beta) {
    return kind == kForwardKl || (kind == kJensenShannon && beta <= 0.5);
}
inline double weight_of_first(int kind, double beta) {
    return other_is_first(kind, beta) ? beta : 1.0 - beta;
}

// One rounding, where the processor has the instruction.
SB_INLINE float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return fmaf(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}
SB_INLINE double fused_multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
    return fma(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
}

// x x_scale - y y_scale; two large and nearly equal products keep the digits of their difference.
template <bool kFused, class A>
SB_INLINE A scaled_difference(A x, A x_scale, A y, A y_scale) {
    if constexpr (kFused) {
        const A product = y * y_scale;
        const A rest = fused_multiply_add(y, y_scale, -product);
        return fused_multiply_add(x, x_scale, -product) - (y == -infinity<A>() ? A(0) : rest);
    } else {
        return static_cast<A>(static_cast<double>(x) * static_cast<double>(x_scale) -
                              static_cast<double>(y) * static_cast<double>(y_scale));
    }
}

// Where |d| is larger, e^-d - 1 + d loses no digits.
template <class A>
SB_INLINE bool is_close(A d) {
    return d <= A(0.5) && d >= A(-0.5);
}

// h(d) = e^-d - 1 + d for |d| <= 1/2: the Taylor series as far as the type sees it.
SB_INLINE float excess(float d) {
    const float t = -d;
    float p = 1.0f / 362880.0f;
    p = p * t + 1.0f / 40320.0f;
    p = p * t + 1.0f / 5040.0f;
    p = p * t + 1.0f / 720.0f;
    p = p * t + 1.0f / 120.0f;
    p = p * t + 1.0f / 24.0f;
    p = p * t + 1.0f / 6.0f;
    p = p * t + 0.5f;
    return p * t * t;
}
SB_INLINE double excess(double d) {
    const double t = -d;
    double p = 1.0 / 1307674368000.0;  // 1/15!
    p = p * t + 1.0 / 87178291200.0;
    p = p * t + 1.0 / 6227020800.0;
    p = p * t + 1.0 / 479001600.0;
    p = p * t + 1.0 / 39916800.0;
    p = p * t + 1.0 / 3628800.0;
    p = p * t + 1.0 / 362880.0;
    p = p * t + 1.0 / 40320.0;
    p = p * t + 1.0 / 5040.0;
    p = p * t + 1.0 / 720.0;
    p = p * t + 1.0 / 120.0;
    p = p * t + 1.0 / 24.0;
    p = p * t + 1.0 / 6.0;
    p = p * t + 0.5;
    return p * t * t;
}

// first log(first / second) - first + second. A first of 0 leaves second; infinite where second is ruled out.
template <class A>
SB_INLINE A divergence_term(A first, A second, A d) {
    const A far = first * unless_zero(first, d - A(1)) + second;
    return is_close(d) ? first * excess(d) : far;
}

// second - first, with the digits of d where both are alike.
template <class A>
SB_INLINE A weight_difference(A first, A second, A d) {
    return is_close(d) ? -second * (d + excess(-d)) : second - first;
}

// log(whole), whole > 0 being 1 + change, rounded: whole = 2^k (1 + f), and log(1 + f) = 2 atanh(f / (2 + f)).
SB_INLINE float log_one_plus(float change, float whole) {
    const int32_t two_thirds = 0x3f2aaaab;
    const int32_t k = (bit_cast<int32_t>(whole) - two_thirds) >> 23;
    const float f = k == 0 ? change : bit_cast<float>(bit_cast<uint32_t>(whole) - (static_cast<uint32_t>(k) << 23)) - 1.0f;
    const float s = f / (2.0f + f), z = s * s;
    float p = 2.0f / 9.0f;
    p = p * z + 2.0f / 7.0f;
    p = p * z + 2.0f / 5.0f;
    p = p * z + 2.0f / 3.0f;
    return static_cast<float>(k) * 0.693147181f + (s * (p * z) + s * 2.0f);
}
SB_INLINE double log_one_plus(double change, double whole) {
    const int64_t two_thirds = 0x3fe5555555555555;
    const int64_t k = (bit_cast<int64_t>(whole) - two_thirds) >> 52;
    const double f = k == 0 ? change : bit_cast<double>(bit_cast<uint64_t>(whole) - (static_cast<uint64_t>(k) << 52)) - 1.0;
    const double s = f / (2.0 + f), z = s * s;
    double p = 2.0 / 21.0;
    p = p * z + 2.0 / 19.0;
    p = p * z + 2.0 / 17.0;
    p = p * z + 2.0 / 15.0;
    p = p * z + 2.0 / 13.0;
    p = p * z + 2.0 / 11.0;
    p = p * z + 2.0 / 9.0;
    p = p * z + 2.0 / 7.0;
    p = p * z + 2.0 / 5.0;
    p = p * z + 2.0 / 3.0;
    return static_cast<double>(k) * 0.6931471805599453 + (s * (p * z) + s * 2.0);
}

// One token of the mixture m = beta first + (1 - beta) second.
template <class A>
struct MixtureTerm {
    A term;                   // beta first log(first / m) + (1 - beta) second log(second / m)
    A log_first, log_second;  // log(first / m), log(second / m); of no meaning where that weight is 0
};

// Weights are measured by the one that makes the larger part of m, by the second where both are close.
template <class A>
SB_INLINE MixtureTerm<A> mixture_term(A first, A second, A d, A beta) {
    const A rest = A(1) - beta, mixture = beta * first + rest * second;
    const bool close = is_close(d), by_second = close || !(beta * first > rest * second);
    const A ratio = (by_second ? first : second) / (by_second ? second : first), minor = by_second ? beta : rest;
    const A growth = close ? d + excess(-d) : ratio - A(1);
    const A change = minor * growth, whole = by_second ? A(1) + change : beta + rest * ratio;  // m over the measure
    const A log_whole = log_one_plus(change, whole);
    const A alike = beta * first * excess(d) - mixture * excess(log_whole);
    const A apart = by_second ? beta * first * unless_zero(first, d) : -rest * second * unless_zero(second, d);
    return {close ? alike : apart - mixture * unless_zero(mixture, log_whole), (by_second ? d : A(0)) - log_whole,
            (by_second ? A(0) : -d) - log_whole};
}

// What a row's gradients need besides the weights: of the scaled logits, times the upstream gradient.
template <class A>
struct DivergenceSlopes {
    A divergence, mixture_divergence, beta;

    // d KL(first || second) / d log first, d log second.
    SB_INLINE A to_first(A first, A d) const { return first * unless_zero(first, d - divergence); }
    static SB_INLINE A to_second(A first, A second, A d) { return weight_difference(first, second, d); }

    // The same of the divergence from the mixture.
    SB_INLINE A mixture_to_first(A first, const MixtureTerm<A>& token) const {
        const A of_first = divergence - (A(1) - beta) * mixture_divergence;  // beta KL(first || m)
        return first * unless_zero(first, beta * token.log_first - of_first);
    }
    SB_INLINE A mixture_to_second(A second, const MixtureTerm<A>& token) const {
        return (A(1) - beta) * second * unless_zero(second, token.log_second - mixture_divergence);
    }
};

}  // namespace softbellman

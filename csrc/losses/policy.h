// Policy terms of one row, pi = softmax(logits): entropy H(pi), expectation of q under pi, the soft value
// sum_w pi(w) (q(w) - tau log pi(w)) of eq 20, and the gradients of it. An action of probability zero contributes nothing.
// With a prior, logits of pi_0 = softmax(prior), the value is sum_w pi(w) (q(w) - tau log(pi(w) / pi_0(w))), which is the
// value of y = q + tau prior less tau log sum_w exp(prior); the gradients are those of y. At tau = 0 a prior plays no part.
#pragma once

#include "core/device.h"
#include "core/exact_double.h"
#include "core/moments.h"
#include "core/online_softmax.h"
#include "core/rows.h"

namespace softbellman {

enum EntropyMode : int { kEntropyExact = 0, kEntropyNormalized = 1, kEntropyNone = 2 };

// value[n] = sum_w pi q + effective_tau H(pi) without a prior. What a backward pass needs is written where it will be asked
// for: a rounded normaliser's `correction` is what every weight of its row has to be multiplied by, value_low what rounding
// took from value; with a prior, what the value of y has above value.
struct PolicyForward {
    Rows shape;
    Matrix logits, q, prior;
    double tau = 0.0;
    int entropy_mode = kEntropyExact;
    void *value = nullptr, *entropy = nullptr;
    void *log_normalizer = nullptr, *correction = nullptr, *value_low = nullptr, *effective_tau = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.matrix("q", q);
        fields.optional_matrix("prior", prior);
        fields.not_negative("tau", tau);
        fields.integer("entropy_mode", entropy_mode, kEntropyExact, kEntropyNone);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.number("value", value);
        fields.number("entropy", entropy);
        fields.optional_number("log_normalizer", log_normalizer);
        fields.optional_number("correction", correction);
        fields.optional_number("value_low", value_low);
        fields.optional_number("effective_tau", effective_tau);
        const int saved =
            (log_normalizer != nullptr) + (correction != nullptr) + (value_low != nullptr) + (effective_tau != nullptr);
        fields.rule(saved == 0 || saved == 4,
                    "log_normalizer, correction, value_low and effective_tau must be given together");
        fields.rule(prior.data == nullptr || entropy_mode == kEntropyExact, "entropy_mode must be 0 (exact) with a prior");
    }
};

// A gradient without a place to go to is not computed.
struct PolicyBackward {
    Rows shape;
    Matrix logits, q, prior;
    const void *value = nullptr, *entropy = nullptr;
    const void *log_normalizer = nullptr, *correction = nullptr, *value_low = nullptr, *effective_tau = nullptr;
    const void *grad_value = nullptr, *grad_entropy = nullptr;
    MutableMatrix grad_logits, grad_q;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.matrix("q", q);
        fields.optional_matrix("prior", prior);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.number("value", value);
        fields.number("entropy", entropy);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.number("value_low", value_low);
        fields.number("effective_tau", effective_tau);
        fields.optional_number("grad_value", grad_value);
        fields.optional_number("grad_entropy", grad_entropy);
        fields.optional_matrix("grad_logits", grad_logits);
        fields.optional_matrix("grad_q", grad_q);
    }
};

namespace cpu {
void policy_forward(const PolicyForward& in, int threads);
void policy_backward(const PolicyBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void policy_forward(const PolicyForward& in, const Launch& launch);
void policy_backward(const PolicyBackward& in, const Launch& launch);
}  // namespace cuda

template <class A>
struct PolicyTerms {
    A log_normalizer;
    A correction;  // of the weights exp(logit - log_normalizer)
    A entropy;
    A expectation;         // sum_w pi(w) q(w)
    A log_policy_squared;  // sum over logits > -inf of log pi(w)^2
};

// All sums carry the factor exp(-maximum). `reference` is a q of the row (or 0) that every q is shifted by, so that a q
// whose values cluster far from zero does not lose its digits; all partial states of a row must use the same one.
template <class A>
struct PolicyState {
    A maximum = -infinity<A>();
    A sum = A(0);         // sum e^(x - maximum)
    A sum_logits = A(0);  // sum e^(x - maximum) (x - maximum)
    A sum_q = A(0);       // sum e^(x - maximum) (q - reference)
    Moments<A> logits;    // filled by push<true> alone

    SB_INLINE void rescale(A joint) {
        if (maximum == joint || maximum == -infinity<A>()) {
            maximum = joint;
            return;
        }
        const A factor = exponential(maximum - joint);
        sum_logits = factor == A(0) ? A(0) : factor * (sum_logits + (maximum - joint) * sum);
        sum_q = factor == A(0) ? A(0) : factor * sum_q;
        sum *= factor;
        maximum = joint;
    }

    template <bool kWithMoments>
    SB_INLINE void push(A x, A q, A reference) {
        if (x == -infinity<A>()) return;
        if (kWithMoments) logits.push(x);
        if (!(x <= maximum)) rescale(x);
        const A shifted = x - maximum;
        const A weight = exponential(shifted);
        if (weight == A(0)) return;
        sum += weight;
        sum_logits += weight * shifted;
        sum_q += weight * (q - reference);
    }

    SB_INLINE void merge(PolicyState other) {
        logits.merge(other.logits);
        if (other.maximum == -infinity<A>()) return;
        const A joint = maximum >= other.maximum ? maximum : other.maximum;
        rescale(joint);
        other.rescale(joint);
        sum += other.sum;
        sum_logits += other.sum_logits;
        sum_q += other.sum_q;
    }

    SB_INLINE PolicyTerms<A> terms(A reference) const {
        if (maximum == -infinity<A>()) return {maximum, A(1), A(0), A(0), A(0)};
        const A log_sum = logarithm(sum);
        const A log_normalizer = maximum + log_sum;
        const A entropy = log_sum - sum_logits / sum;
        return {log_normalizer, weight_correction(maximum, sum, log_normalizer, A(1)),
                entropy > A(0) ? entropy : (entropy == entropy ? A(0) : entropy), reference + sum_q / sum,
                logits.deviation_about(log_normalizer)};
    }
};

// The coefficient of the entropy: tau, tau / (1e-8 + ||log pi||_2) or 0.
template <class A>
SB_INLINE A effective_temperature(A tau, int entropy_mode, A log_policy_squared) {
    if (entropy_mode == kEntropyNone) return A(0);
    if (entropy_mode == kEntropyNormalized) return tau / (A(1e-8) + square_root(log_policy_squared));
    return tau;
}

// d/d logits of grad_value * value + grad_entropy * entropy, the effective temperature held constant; the value is the sum
// of `value` and `value_low`.
template <class A>
SB_INLINE A policy_gradient_logits(A probability, A log_probability, A q, A value, A value_low, A entropy, A effective_tau,
                                   A grad_value, A grad_entropy) {
    if (probability == A(0)) return A(0);
    const A advantage = (q - value) - (effective_tau * log_probability + value_low);
    return probability * (grad_value * advantage - grad_entropy * (log_probability + entropy));
}

}  // namespace softbellman

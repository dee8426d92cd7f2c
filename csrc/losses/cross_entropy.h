// Cross entropy of the policy pi = softmax(x) under an oracle p = softmax(q / tau) (eq 17) mixed with a one-hot target:
//   loss = alpha * sum_w p(w) (lse(x) - x(w)) + (1 - alpha) * (lse(x) - x(target)).
// A part with weight 0 is not evaluated. An oracle row that is -inf everywhere has no distribution and drops its part; a
// policy row that is -inf everywhere has loss 0 and gradient 0.
#pragma once

#include "core/online_softmax.h"

namespace softbellman {

// The oracle's normaliser and its expectation of the policy's logits, shifted by `reference` (a logit of the row, or 0).
template <class A>
struct OracleState {
    A maximum = -infinity<A>();
    A sum = A(0);    // sum e^((q - maximum) / tau)
    A cross = A(0);  // sum e^((q - maximum) / tau) (x - reference)

    SB_INLINE void rescale(A joint, A scale) {
        if (maximum != joint && maximum != -infinity<A>()) {
            const A factor = exponential((maximum - joint) * scale);
            cross = factor == A(0) ? A(0) : factor * cross;
            sum *= factor;
        }
        maximum = joint;
    }

    SB_INLINE void push(A x, A q, A reference, A scale) {
        if (q == -infinity<A>()) return;
        if (!(q <= maximum)) rescale(q, scale);
        const A weight = exponential((q - maximum) * scale);
        if (weight == A(0)) return;
        sum += weight;
        cross += weight * (x - reference);
    }

    SB_INLINE void merge(OracleState other, A scale) {
        if (other.maximum == -infinity<A>()) return;
        const A joint = maximum >= other.maximum ? maximum : other.maximum;
        rescale(joint, scale);
        other.rescale(joint, scale);
        sum += other.sum;
        cross += other.cross;
    }

    SB_INLINE bool exists() const { return maximum != -infinity<A>(); }

    // log sum_w exp(q(w) / tau): the normaliser of q / tau, not of q.
    SB_INLINE A log_normalizer(A scale) const { return exists() ? maximum * scale + logarithm(sum) : maximum; }
};

// policy_shift is lse(x) - reference, computed by the caller without adding the reference first; target_shift is
// lse(x) - x(target) and is ignored where alpha is 1.
template <class A>
SB_INLINE A distillation_row_loss(A policy_shift, A target_shift, const OracleState<A>& oracle, A alpha) {
    const A soft = alpha != A(0) && oracle.exists() ? alpha * (policy_shift - oracle.cross / oracle.sum) : A(0);
    const A hard = alpha != A(1) ? (A(1) - alpha) * target_shift : A(0);
    return soft + hard;
}

// d loss / d x(w) per unit of grad_loss, without the target's part, which is -(1 - alpha). `oracle_weight` is alpha, or 0
// where the oracle has no distribution; policy_weight = oracle_weight + (1 - alpha).
template <class A>
SB_INLINE A distillation_gradient(A policy_probability, A oracle_probability, A policy_weight, A oracle_weight) {
    return policy_weight * policy_probability - (oracle_weight == A(0) ? A(0) : oracle_weight * oracle_probability);
}

}  // namespace softbellman

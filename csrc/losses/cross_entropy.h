// Cross entropy of the policy pi = softmax(x) under an oracle p = softmax(q / tau) (eq 17) mixed with a one-hot target:
//   loss = alpha * sum_w p(w) (lse(x) - x(w)) + (1 - alpha) * (lse(x) - x(target)).
// A part with weight 0 is not evaluated. An oracle row that is -inf everywhere has no distribution and drops its part; a
// policy row that is -inf everywhere has loss 0 and gradient 0.
#pragma once

#include "core/device.h"
#include "core/online_softmax.h"
#include "core/rows.h"

namespace softbellman {

// Without q the loss is the target's alone; with q, a row counts the oracle with oracle_weight (alpha; absent: 1). A rounded
// normaliser's correction is what every weight of its row has to be multiplied by.
struct CrossEntropyForward {
    Rows shape;
    Matrix logits, q;
    double tau = 1.0;
    const int64_t* targets = nullptr;
    const void* oracle_weight = nullptr;
    void *loss = nullptr, *log_normalizer = nullptr, *correction = nullptr;
    void *oracle_log_normalizer = nullptr, *oracle_correction = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.optional_matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("targets", targets);
        fields.optional_number("oracle_weight", oracle_weight);
        fields.number("loss", loss);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.number("oracle_log_normalizer", oracle_log_normalizer);
        fields.number("oracle_correction", oracle_correction);
        fields.rule(shape.rows == 0 || targets != nullptr || (q.data != nullptr && oracle_weight == nullptr),
                    "targets must be given, unless q is and oracle_weight is not");
    }
};

struct CrossEntropyBackward {
    Rows shape;
    Matrix logits, q;
    double tau = 1.0;
    const int64_t* targets = nullptr;
    const void* oracle_weight = nullptr;
    const void *log_normalizer = nullptr, *correction = nullptr;
    const void *oracle_log_normalizer = nullptr, *oracle_correction = nullptr, *grad_loss = nullptr;
    MutableMatrix grad_logits;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.optional_matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("targets", targets);
        fields.optional_number("oracle_weight", oracle_weight);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.number("oracle_log_normalizer", oracle_log_normalizer);
        fields.number("oracle_correction", oracle_correction);
        fields.number("grad_loss", grad_loss);
        fields.matrix("grad_logits", grad_logits);
        fields.rule(shape.rows == 0 || targets != nullptr || (q.data != nullptr && oracle_weight == nullptr),
                    "targets must be given, unless q is and oracle_weight is not");
    }
};

namespace cpu {
void cross_entropy_forward(const CrossEntropyForward& in, int threads);
void cross_entropy_backward(const CrossEntropyBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void cross_entropy_forward(const CrossEntropyForward& in, const Launch& launch);
void cross_entropy_backward(const CrossEntropyBackward& in, const Launch& launch);
}  // namespace cuda

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

// Both distributions of a row in one pass: the policy's softmax state and the oracle's state, whose `cross` counts logits
// from the policy's running maximum. Every term of cross is then <= 0 and the loss log(policy.sum) - cross / oracle.sum is a
// sum of non-negative parts: nothing cancels, however far the logits lie from zero.
template <class A>
struct CrossEntropyState {
    SoftmaxState<A> policy;
    OracleState<A> oracle;

    // Moves the policy's maximum up to `joint`. Before the first finite logit, cross is 0, or -inf for an impossible token.
    SB_INLINE void raise_policy(A joint) {
        if (policy.maximum == joint) return;
        if (policy.maximum != -infinity<A>()) {
            if (oracle.sum != A(0)) oracle.cross -= (joint - policy.maximum) * oracle.sum;
            policy.sum *= exponential(policy.maximum - joint);
        }
        policy.maximum = joint;
    }

    // The oracle's part of one element; the policy's part is pushed into `policy` beforehand.
    SB_INLINE void push_oracle(A x, A q, A scale) {
        if (policy.maximum == -infinity<A>()) {
            oracle.push(x, q, A(0), scale);
        } else {
            oracle.push(x, q, policy.maximum, scale);
        }
    }

    SB_INLINE void merge(CrossEntropyState other, A scale) {
        const A joint = policy.maximum >= other.policy.maximum ? policy.maximum : other.policy.maximum;
        raise_policy(joint);
        other.raise_policy(joint);
        policy.sum += other.policy.sum;
        oracle.merge(other.oracle, scale);
    }
};

// policy_shift is lse(x) - reference, computed by the caller without adding the reference first; target_shift is
// lse(x) - x(target) and is ignored where alpha is 1.
template <class A>
SB_INLINE A cross_entropy_row_loss(A policy_shift, A target_shift, const OracleState<A>& oracle, A alpha) {
    const A soft = alpha != A(0) && oracle.exists() ? alpha * (policy_shift - oracle.cross / oracle.sum) : A(0);
    const A hard = alpha != A(1) ? (A(1) - alpha) * target_shift : A(0);
    return soft + hard;
}

// d loss / d x(w) per unit of grad_loss, without the target's part, which is -(1 - alpha). `oracle_weight` is alpha, or 0
// where the oracle has no distribution; policy_weight = oracle_weight + (1 - alpha).
template <class A>
SB_INLINE A cross_entropy_gradient(A policy_probability, A oracle_probability, A policy_weight, A oracle_weight) {
    return policy_weight * policy_probability - (oracle_weight == A(0) ? A(0) : oracle_weight * oracle_probability);
}

}  // namespace softbellman

// What a row of logits says of its target, pi = softmax(x):
//   log_prob = x(target) - Z,  entropy = -sum_w pi(w) log pi(w),  log_normalizer Z = log sum_w exp(x(w)),
// and the gradient of a sum of the three. A logit of -inf is a token of probability zero and contributes nothing. A row that
// is -inf everywhere has log_prob and entropy 0, Z = -inf and gradient 0.
#pragma once

#include "core/device.h"
#include "core/online_softmax.h"
#include "core/rows.h"

namespace softbellman {

// Without targets log_prob is 0. A rounded normaliser's `correction` is what every weight exp(x - log_normalizer) of its row
// has to be multiplied by.
struct TokenStatisticsForward {
    Rows shape;
    Matrix logits;
    const int64_t* targets = nullptr;
    void *log_prob = nullptr, *entropy = nullptr, *log_normalizer = nullptr, *correction = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("targets", targets);
        fields.number("log_prob", log_prob);
        fields.number("entropy", entropy);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
    }
};

// What arrives at a result may be absent: it is 0.
struct TokenStatisticsBackward {
    Rows shape;
    Matrix logits;
    const int64_t* targets = nullptr;
    const void *entropy = nullptr, *log_normalizer = nullptr, *correction = nullptr;
    const void *grad_log_prob = nullptr, *grad_entropy = nullptr, *grad_log_normalizer = nullptr;
    MutableMatrix grad_logits;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("targets", targets);
        fields.number("entropy", entropy);
        fields.number("log_normalizer", log_normalizer);
        fields.number("correction", correction);
        fields.optional_number("grad_log_prob", grad_log_prob);
        fields.optional_number("grad_entropy", grad_entropy);
        fields.optional_number("grad_log_normalizer", grad_log_normalizer);
        fields.matrix("grad_logits", grad_logits);
        fields.rule(shape.rows == 0 || grad_log_prob == nullptr || targets != nullptr,
                    "targets must be given where grad_log_prob is");
    }
};

namespace cpu {
void token_statistics_forward(const TokenStatisticsForward& in, int threads);
void token_statistics_backward(const TokenStatisticsBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void token_statistics_forward(const TokenStatisticsForward& in, const Launch& launch);
void token_statistics_backward(const TokenStatisticsBackward& in, const Launch& launch);
}  // namespace cuda

// Both sums carry the factor exp(-maximum).
template <class A>
struct EntropyState {
    A maximum = -infinity<A>();
    A sum = A(0);         // sum e^(x - maximum)
    A sum_logits = A(0);  // sum e^(x - maximum) (x - maximum)

    SB_INLINE void rescale(A joint) {
        if (maximum == joint || maximum == -infinity<A>()) {
            maximum = joint;
            return;
        }
        const A factor = exponential(maximum - joint);
        sum_logits = factor == A(0) ? A(0) : factor * (sum_logits + (maximum - joint) * sum);
        sum *= factor;
        maximum = joint;
    }

    SB_INLINE void push(A x) {
        if (x == -infinity<A>()) return;
        if (!(x <= maximum)) rescale(x);
        const A shifted = x - maximum;
        const A weight = exponential(shifted);
        if (weight == A(0)) return;
        sum += weight;
        sum_logits += weight * shifted;
    }

    SB_INLINE void merge(EntropyState other) {
        if (other.maximum == -infinity<A>()) return;
        const A joint = maximum >= other.maximum ? maximum : other.maximum;
        rescale(joint);
        other.rescale(joint);
        sum += other.sum;
        sum_logits += other.sum_logits;
    }

    SB_INLINE A entropy(A log_sum) const {
        const A found = log_sum - sum_logits / sum;
        return found > A(0) ? found : (found == found ? A(0) : found);
    }
};

// d/dx(w) without the target's part: of Z it is pi(w), of log_prob -pi(w), of the entropy -pi(w) (log pi(w) + entropy).
// `level` is what arrives at Z less what arrives at log_prob.
template <class A>
SB_INLINE A token_statistics_gradient(A probability, A log_probability, A entropy, A level, A grad_entropy) {
    if (probability == A(0)) return A(0);
    return probability * (level - grad_entropy * (log_probability + entropy));
}

}  // namespace softbellman

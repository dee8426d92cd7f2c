// Online log-sum-exp: a partial result over any subset of a row, extended one element at a time and merged in any order.
// A state whose maximum is -inf is the identity of the merge; (-inf) - (-inf) is never computed.
#pragma once

#include "core/portability.h"

namespace softbellman {

// exp(scale * (x - maximum)), where an x of -inf weighs nothing and maximum is finite.
template <class A>
SB_INLINE A shifted_weight(A x, A maximum, A scale) {
    return x == -infinity<A>() ? A(0) : exponential((x - maximum) * scale);
}

// 1 / sum_w exp(scale * (x_w - rounded)), from the sum that belongs to the maximum: 1 but for what rounding took from the
// normaliser. 1 where there is no finite maximum.
template <class A>
SB_INLINE A weight_correction(A maximum, A sum, A rounded, A scale) {
    if (!(maximum - maximum == A(0))) return A(1);
    return A(1) / (sum * exponential((maximum - rounded) * scale));
}

// sum = sum_w exp(scale * (x_w - maximum)) over the elements seen.
template <class A>
struct SoftmaxState {
    A maximum = -infinity<A>();
    A sum = A(0);

    SB_INLINE void push(A x, A scale) {
        if (x == -infinity<A>()) return;
        if (x <= maximum) {
            sum += exponential((x - maximum) * scale);
        } else {  // the branch a NaN takes, so that it is not lost
            sum = sum * shifted_weight(maximum, x, scale) + A(1);
            maximum = x;
        }
    }

    SB_INLINE void merge(const SoftmaxState& other, A scale) {
        if (other.maximum == -infinity<A>()) return;
        if (maximum == -infinity<A>()) {
            *this = other;
            return;
        }
        const A joint = maximum >= other.maximum ? maximum : other.maximum;
        sum = sum * exponential((maximum - joint) * scale) + other.sum * exponential((other.maximum - joint) * scale);
        maximum = joint;
    }

    // log sum_w exp(scale * x_w) divided by scale: the soft value with scale = 1/temperature. -inf for an empty row.
    SB_INLINE A value(A temperature) const {
        if (maximum == -infinity<A>() || maximum == infinity<A>()) return maximum;
        return maximum + temperature * logarithm(sum);
    }

    // What exp(scale * (x - rounded)) has to be multiplied by to be a probability, `rounded` being the value above.
    SB_INLINE A correction(A rounded, A scale) const { return weight_correction(maximum, sum, rounded, scale); }
};

// d value / d x_w = exp((x - value)/temperature) for scale = 1/temperature. The exponent is clamped so that a value of a
// coarse row, which is corrected by a factor, does not let it overflow.
template <class A>
SB_INLINE A soft_value_weight(A x, A value, A scale) {
    if (x == -infinity<A>() || value == -infinity<A>()) return A(0);
    const A limit = sizeof(A) == 8 ? A(709) : A(88);
    const A exponent = (x - value) * scale;
    return exponential(exponent > limit ? limit : exponent);
}

}  // namespace softbellman

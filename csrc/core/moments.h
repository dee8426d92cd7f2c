// Count, mean and sum of squared deviations of the finite-or-larger elements of a row: Welford's update and Chan's merge.
// E[x^2] - E[x]^2 is never formed: values near 30 with variance 1e-3 would cancel in float32. An element of -inf stands for
// an action that does not exist and is left out of all three numbers.
#pragma once

#include "core/portability.h"

namespace softbellman {

template <class A>
struct Moments {
    A count = A(0);
    A mean = A(0);
    A deviation = A(0);  // sum of (x - mean)^2

    SB_INLINE void push(A x) {
        if (x == -infinity<A>()) return;
        count += A(1);
        const A delta = x - mean;
        mean += delta / count;
        deviation += delta * (x - mean);
    }

    SB_INLINE void merge(const Moments& other) {
        if (other.count == A(0)) return;
        const A total = count + other.count;
        const A delta = other.mean - mean;
        const A share = other.count / total;
        mean += delta * share;
        deviation += other.deviation + delta * delta * count * share;
        count = total;
    }

    // sum of (x - centre)^2 about any centre.
    SB_INLINE A deviation_about(A centre) const {
        const A shift = mean - centre;
        return deviation + count * shift * shift;
    }
};

}  // namespace softbellman

// Critic regression of one row: td_error = q(a) - target, spread = sum_w (q(w) - mean)^2 (the smoothness penalty of the
// paper's section 4), loss = td_error^2 + smoothness * spread. The derivative of the spread through the mean is zero.
#pragma once

#include "core/portability.h"

namespace softbellman {

template <class A>
SB_INLINE A critic_row_loss(A td_error, A spread, A smoothness) {
    // A spread may be infinite where it is not asked for.
    return td_error * td_error + (smoothness == A(0) ? A(0) : smoothness * spread);
}

// d loss / d q(w) without the chosen action's part; the mean is the sum of `mean` and `mean_low`. An action with q = -inf
// does not exist and gets no gradient.
template <class A>
SB_INLINE A critic_gradient_spread(A q, A mean, A mean_low, A smoothness, A grad_loss) {
    if (smoothness == A(0) || q == -infinity<A>()) return A(0);
    return A(2) * smoothness * grad_loss * ((q - mean) - mean_low);
}

// The part of the chosen action, added before the sum is rounded to the data's type.
template <class A>
SB_INLINE A critic_gradient_action(A td_error, A grad_loss) {
    return A(2) * grad_loss * td_error;
}

}  // namespace softbellman

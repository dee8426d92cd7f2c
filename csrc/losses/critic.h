// Critic regression of one row: td_error = q(a) - target, spread = sum_w (q(w) - mean)^2 (the smoothness penalty of the
// paper's section 4), loss = td_error^2 + smoothness * spread. The derivative of the spread through the mean is zero.
#pragma once

#include "core/device.h"
#include "core/exact_double.h"
#include "core/rows.h"

namespace softbellman {

// `mean_low` is what rounding took from the mean.
struct CriticForward {
    Rows shape;
    Matrix q;
    const int64_t* actions = nullptr;
    const void* targets = nullptr;
    double smoothness = 0.0;
    void *loss = nullptr, *td_error = nullptr, *mean = nullptr, *mean_low = nullptr, *spread = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.ids("actions", actions);
        fields.number("targets", targets);
        fields.not_negative("smoothness", smoothness);
        fields.number("loss", loss);
        fields.number("td_error", td_error);
        fields.number("mean", mean);
        fields.number("mean_low", mean_low);
        fields.number("spread", spread);
    }
};

struct CriticBackward {
    Rows shape;
    Matrix q;
    const int64_t* actions = nullptr;
    double smoothness = 0.0;
    const void *td_error = nullptr, *mean = nullptr, *mean_low = nullptr, *grad_loss = nullptr;
    MutableMatrix grad_q;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.ids("actions", actions);
        fields.not_negative("smoothness", smoothness);
        fields.number("td_error", td_error);
        fields.number("mean", mean);
        fields.number("mean_low", mean_low);
        fields.number("grad_loss", grad_loss);
        fields.matrix("grad_q", grad_q);
    }
};

namespace cpu {
void critic_forward(const CriticForward& in, int threads);
void critic_backward(const CriticBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void critic_forward(const CriticForward& in, const Launch& launch);
void critic_backward(const CriticBackward& in, const Launch& launch);
}  // namespace cuda

// In steps rounded once each: erac_critic_loss gives the bits of critic_loss. A spread may be infinite where it is not asked
// for.
template <class A>
SB_INLINE A critic_row_loss(A td_error, A spread, A smoothness) {
    const A of_spread = smoothness == A(0) ? A(0) : exact_multiply(smoothness, spread);
    return exact_add(exact_multiply(td_error, td_error), of_spread);
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

// The critic's loss with target[n] = reward[n] + value[n + 1], value = sum_w pi target_q + tau H(pi), pi = softmax(logits)
// (eq 18 and 19). Its gradient is that of the critic's loss.
#pragma once

#include "core/device.h"
#include "core/rows.h"

namespace softbellman {

// Rows are positions of sequences of `steps`, one behind the other; the last position of each, one with terminal[n] != 0 and
// one before a masked row have no value to add.
struct EracForward {
    Rows shape;
    Matrix logits, target_q, q;
    const int64_t* actions = nullptr;
    const void* rewards = nullptr;
    const uint8_t* terminal = nullptr;  // [rows]; null: none
    int64_t steps = 1;
    double tau = 0.0, smoothness = 0.0;
    void *loss = nullptr, *td_error = nullptr, *targets = nullptr, *value = nullptr, *entropy = nullptr;
    void *mean = nullptr, *mean_low = nullptr, *spread = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("logits", logits);
        fields.matrix("target_q", target_q);
        fields.matrix("q", q);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.ids("actions", actions);
        fields.number("rewards", rewards);
        fields.optional_array("terminal", terminal, shape.rows);
        fields.steps("steps", steps);
        fields.not_negative("tau", tau);
        fields.not_negative("smoothness", smoothness);
        fields.number("loss", loss);
        fields.number("td_error", td_error);
        fields.number("targets", targets);
        fields.number("value", value);
        fields.number("entropy", entropy);
        fields.number("mean", mean);
        fields.number("mean_low", mean_low);
        fields.number("spread", spread);
    }
};

namespace cpu {
void erac_forward(const EracForward& in, int threads);
}  // namespace cpu
namespace cuda {
void erac_forward(const EracForward& in, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman

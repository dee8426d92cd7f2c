// Soft value of a row, tau * log sum_w pi_0(w) exp(q(w) / tau) (eq 14), the q of the chosen action, and their gradient; the
// soft Bellman residual of rows that are sequences (eq 16), which has the same row mathematics and no prior. The prior holds
// logits of pi_0 = softmax(prior), a constant; without one every token weighs 1. With y = q + tau prior the value is
// tau log sum_w exp(y / tau) - tau log sum_w exp(prior), and the gradient softmax(y / tau).
#pragma once

#include "core/device.h"
#include "core/rows.h"
#include "losses/soft_bellman.h"

namespace softbellman {

// gathered[n] = q[n, actions[n]]. `normalizer`, wanted where there is a prior, is tau log sum_w exp(y / tau), the value
// where there is no prior, and `correction` what the weights exp((y - normalizer) / tau) of a row have to be multiplied by,
// since it is rounded.
struct SoftValueForward {
    Rows shape;
    Matrix q;
    double tau = 1.0;
    Matrix prior;
    const int64_t* actions = nullptr;
    void *value = nullptr, *normalizer = nullptr, *correction = nullptr, *gathered = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_matrix("prior", prior);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("actions", actions);
        fields.number("value", value);
        fields.optional_number("normalizer", normalizer);
        fields.number("correction", correction);
        fields.optional_number("gathered", gathered);
        fields.rule(prior.data == nullptr || normalizer != nullptr, "normalizer must come with prior");
        fields.rule((actions == nullptr) == (gathered == nullptr), "actions and gathered must be given together");
    }
};

struct SoftValueBackward {
    Rows shape;
    Matrix q;
    double tau = 1.0;
    Matrix prior;
    const int64_t* actions = nullptr;
    const void *normalizer = nullptr, *correction = nullptr;
    const void *grad_value = nullptr, *grad_gathered = nullptr;
    MutableMatrix grad_q;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_matrix("prior", prior);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.optional_ids("actions", actions);
        fields.number("normalizer", normalizer);
        fields.number("correction", correction);
        fields.optional_number("grad_value", grad_value);
        fields.optional_number("grad_gathered", grad_gathered);
        fields.matrix("grad_q", grad_q);
        fields.rule(actions != nullptr || grad_gathered == nullptr, "grad_gathered must come with actions");
    }
};

struct SoftBellmanForward {
    Rows shape;
    Matrix q;
    double tau = 1.0;
    const int64_t* actions = nullptr;
    Sequences sequences;
    void *value = nullptr, *correction = nullptr;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.ids("actions", actions);
        fields.number("rewards", sequences.rewards);
        fields.optional_array("terminal", sequences.terminal, shape.rows);
        fields.steps("steps", sequences.steps);
        fields.number("residual", sequences.residual);
        fields.number("value", value);
        fields.number("correction", correction);
    }
};

struct SoftBellmanBackward {
    Rows shape;
    Matrix q;
    double tau = 1.0;
    const int64_t* actions = nullptr;
    Sequences sequences;
    const void *value = nullptr, *correction = nullptr;
    MutableMatrix grad_q;

    template <class Fields>
    void describe(Fields& fields) {
        fields.shape(shape);
        fields.matrix("q", q);
        fields.temperature("tau", tau);
        fields.optional_array("mask", shape.mask, shape.rows);
        fields.ids("actions", actions);
        fields.optional_array("terminal", sequences.terminal, shape.rows);
        fields.steps("steps", sequences.steps);
        fields.number("value", value);
        fields.number("correction", correction);
        fields.number("grad_residual", sequences.grad_residual);
        fields.matrix("grad_q", grad_q);
    }
};

namespace cpu {
void soft_value_forward(const SoftValueForward& in, int threads);
void soft_value_backward(const SoftValueBackward& in, int threads);
void soft_bellman_forward(const SoftBellmanForward& in, int threads);
void soft_bellman_backward(const SoftBellmanBackward& in, int threads);
}  // namespace cpu
namespace cuda {
void soft_value_forward(const SoftValueForward& in, const Launch& launch);
void soft_value_backward(const SoftValueBackward& in, const Launch& launch);
void soft_bellman_forward(const SoftBellmanForward& in, const Launch& launch);
void soft_bellman_backward(const SoftBellmanBackward& in, const Launch& launch);
}  // namespace cuda

}  // namespace softbellman

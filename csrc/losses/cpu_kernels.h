// The CPU entry points. Pointers are untyped because the element type is a run-time code (DtypeCode); strides count
// elements; A below is the accumulator type of that code. A null mask means every row is real, other null pointers mean
// "absent". Rows whose mask is 0 are not read; their outputs are zeros. `threads` is an upper bound: little work stays on
// the caller. Forward kernels also leave what their backward kernel needs: a rounded normaliser's `correction` is what every
// weight of its row has to be multiplied by, a `_low` what rounding took from the number of that name. A gradient may lie
// where its own matrix lies (same data and stride): a row is read before it is written.
#pragma once

#include <cstdint>

#include "losses/soft_bellman.h"
#include "core/philox.h"

namespace softbellman::cpu {

struct Rows {
    int64_t rows;
    int64_t vocab;
    int dtype;
    const uint8_t* mask;
    int threads;
};

struct Matrix {
    const void* data;
    int64_t stride;
};

struct MutableMatrix {
    void* data;
    int64_t stride;
};

// value[n] = tau log sum_w prior(w) exp(q[n,w] / tau); gathered[n] = q[n, actions[n]]. The prior is of type A.
void soft_value_forward(const Rows& shape, Matrix q, double tau, Matrix prior, const int64_t* actions, void* value,
                        void* correction, void* gathered);
void soft_value_backward(const Rows& shape, Matrix q, double tau, Matrix prior, const int64_t* actions, const void* value,
                         const void* correction, const void* grad_value, const void* grad_gathered, MutableMatrix grad_q);

// The soft value of every row, without a prior, and the residuals of the sequences that the rows are.
void soft_bellman_forward(const Rows& shape, Matrix q, double tau, const int64_t* actions, const Sequences& sequences,
                          void* value, void* correction);
void soft_bellman_backward(const Rows& shape, Matrix q, double tau, const int64_t* actions, const Sequences& sequences,
                           const void* value, const void* correction, MutableMatrix grad_q);

// value[n] = sum_w pi q + effective_tau H(pi), pi = softmax(logits).
struct PolicyResults {
    void *value, *entropy, *log_normalizer, *correction, *value_low, *effective_tau;  // A[rows] each; the last four null:
                                                                                      // there will be no backward pass
};
void policy_forward(const Rows& shape, Matrix logits, Matrix q, double tau, int entropy_mode, const PolicyResults& out);
void policy_backward(const Rows& shape, Matrix logits, Matrix q, const PolicyResults& saved, const void* grad_value,
                     const void* grad_entropy, MutableMatrix grad_logits, MutableMatrix grad_q);

// loss[n] = (q(a) - target)^2 + smoothness * sum_w (q - mean)^2.
struct CriticResults {
    void *loss, *td_error, *mean, *mean_low, *spread;  // A[rows] each
};
void critic_forward(const Rows& shape, Matrix q, const int64_t* actions, const void* targets, double smoothness,
                    const CriticResults& out);
void critic_backward(const Rows& shape, Matrix q, const int64_t* actions, double smoothness, const void* td_error,
                     const void* mean, const void* mean_low, const void* grad_loss, MutableMatrix grad_q);

// The critic's loss with target[n] = reward[n] + value[n + 1], value = sum_w pi target_q + tau H(pi), pi = softmax(logits).
// Rows are positions of sequences of `steps`, one behind the other; the last position of each, one with terminal[n] != 0 and
// one before a masked row have no value to add. Backward is critic_backward.
struct EracResults {
    CriticResults critic;
    void *targets, *value, *entropy;  // A[rows] each
};
void erac_forward(const Rows& shape, Matrix logits, Matrix target_q, Matrix q, const int64_t* actions, const void* rewards,
                  const uint8_t* terminal, int64_t steps, double tau, double smoothness, const EracResults& out);

// Cross entropy of softmax(logits) under alpha softmax(q / tau) + (1 - alpha) onehot(target).
struct DistillationResults {
    void *loss, *log_normalizer, *correction, *oracle_log_normalizer, *oracle_correction;  // A[rows] each
};
void distillation_forward(const Rows& shape, Matrix logits, Matrix q, double tau, const int64_t* targets,
                          const void* oracle_weight, const DistillationResults& out);
void distillation_backward(const Rows& shape, Matrix logits, Matrix q, double tau, const int64_t* targets,
                           const void* oracle_weight, const DistillationResults& saved, const void* grad_loss,
                           MutableMatrix grad_logits);

// A draw from softmax(logits / temperature) without the forbidden columns, its log-probability and the entropy.
void sample_forward(const Rows& shape, Matrix logits, double temperature, const NoiseStream& noise, const uint8_t* forbidden,
                    int64_t* tokens, void* log_prob, void* entropy);

// Asks the system to back memory that is about to be written by huge pages; false where it is too little, the system has
// none or SOFTBELLMAN_HUGE_PAGES=0 is in the environment. Never an error: the memory serves either way.
constexpr int64_t kHugePageMinimum = int64_t{4} << 20;
bool ask_for_huge_pages(void* data, int64_t bytes);

// exp(scale * x[i]) as the kernels above compute it, in the type A of `shape`, one row of `vocab` elements; for tests.
void exponential_forward(const Rows& shape, const void* x, double scale, void* result);

}  // namespace softbellman::cpu

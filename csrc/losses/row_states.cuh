// The online states of the policy, of the cross entropy and of the entropy alone, extended by one packet of a row at a time
// (core/row_states.cuh).
#pragma once
#include "core/row_states.cuh"
#include "losses/cross_entropy.h"
#include "losses/policy.h"
#include "losses/token_statistics.h"

namespace softbellman::cuda {

template <bool kWithMoments, class A, int kN>
__device__ __forceinline__ void extend(PolicyState<A>& state, const A (&x)[kN], const A (&q)[kN]) {
    if (kWithMoments) extend(state.logits, x);
    const A top = largest(x);
    if (top > state.maximum) state.rescale(top);
    if (state.maximum == -infinity<A>()) {
        for (int k = 0; k < kN; ++k) state.template push<false>(x[k], q[k], A(0));
        return;
    }
    A sum = A(0), sum_logits = A(0), sum_q = A(0);
#pragma unroll
    for (int k = 0; k < kN; ++k) {
        const A shifted = x[k] - state.maximum;
        const A weight = power_of_two(shifted * A(kLogTwoOfE));
        sum += weight;
        sum_logits += weight == A(0) ? A(0) : weight * shifted;
        sum_q += weight == A(0) ? A(0) : weight * q[k];
    }
    state.sum += sum;
    state.sum_logits += sum_logits;
    state.sum_q += sum_q;
}

template <class A, int kN>
__device__ __forceinline__ void extend(CrossEntropyState<A>& state, const A (&x)[kN], const A (&q)[kN], A scale,
                                       A scale_log2) {
    const A top = largest(x);
    if (top > state.policy.maximum) state.raise_policy(top);
    extend(state.policy, x, A(1), A(kLogTwoOfE));
    const A top_q = largest(q);
    if (top_q > state.oracle.maximum) state.oracle.rescale(top_q, scale);
    if (state.oracle.maximum == -infinity<A>() || state.policy.maximum == -infinity<A>()) {
        for (int k = 0; k < kN; ++k) state.push_oracle(x[k], q[k], scale);
        return;
    }
    A sum = A(0), cross = A(0);
#pragma unroll
    for (int k = 0; k < kN; ++k) {
        const A weight = power_of_two((q[k] - state.oracle.maximum) * scale_log2);
        sum += weight;
        cross += weight == A(0) ? A(0) : weight * (x[k] - state.policy.maximum);
    }
    state.oracle.sum += sum;
    state.oracle.cross += cross;
}

template <class A, int kN>
__device__ __forceinline__ void extend(EntropyState<A>& state, const A (&x)[kN]) {
    const A top = largest(x);
    if (top > state.maximum) state.rescale(top);
    if (state.maximum == -infinity<A>()) {  // nothing but -inf so far; a NaN must not be lost
        for (int k = 0; k < kN; ++k) state.push(x[k]);
        return;
    }
    A sum = A(0), sum_logits = A(0);
#pragma unroll
    for (int k = 0; k < kN; ++k) {
        const A shifted = x[k] - state.maximum;
        const A weight = power_of_two(shifted * A(kLogTwoOfE));
        sum += weight;
        sum_logits += weight == A(0) ? A(0) : weight * shifted;
    }
    state.sum += sum;
    state.sum_logits += sum_logits;
}

}  // namespace softbellman::cuda

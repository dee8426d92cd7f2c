// Both distributions of a distillation row in one pass: the policy's softmax state and the oracle's state, whose `cross`
// counts logits from the policy's running maximum. Every term of cross is then <= 0 and the loss log(policy.sum) - cross /
// oracle.sum is a sum of non-negative parts: nothing cancels, however far the logits lie from zero.
#pragma once

#include "losses/cross_entropy.h"

namespace softbellman {

template <class A>
struct DistillationState {
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

    SB_INLINE void merge(DistillationState other, A scale) {
        const A joint = policy.maximum >= other.policy.maximum ? policy.maximum : other.policy.maximum;
        raise_policy(joint);
        other.raise_policy(joint);
        policy.sum += other.policy.sum;
        oracle.merge(other.oracle, scale);
    }
};

}  // namespace softbellman

// The critic's loss of ERAC (eq 18 and 19): policy value of every state under the target critic, regression of the critic on
// reward plus the value of the state that follows.
//
// The two halves of the pass share no input, and a row's target needs the value of the next row alone. So the policy kernel,
// a shift of one vector and the critic kernel read each of the three matrices once and keep nothing but the results: more
// could not be saved by one loop over both.
#include "losses/erac.h"

#include "losses/critic.h"
#include "losses/policy.h"

namespace softbellman::cpu {
namespace {

// target[n] = reward[n] + value[n + 1] where row n + 1 is real and continues the sequence of row n.
template <class A>
void form_targets(const EracForward& in) {
    const A* const rewards = static_cast<const A*>(in.rewards);
    const A* const value = static_cast<const A*>(in.value);
    A* const targets = static_cast<A*>(in.targets);
    for (int64_t n = 0; n < in.shape.rows; ++n) {
        if (in.shape.mask != nullptr && in.shape.mask[n] == 0) {
            targets[n] = A(0);
            continue;
        }
        const bool ends = (n + 1) % in.steps == 0 || (in.terminal != nullptr && in.terminal[n] != 0);
        targets[n] = rewards[n] + (ends ? A(0) : value[n + 1]);  // 0 in masked rows
    }
}

}  // namespace

void erac_forward(const EracForward& in, int threads) {
    const PolicyForward policy{in.shape, in.logits, in.target_q, {}, in.tau, kEntropyExact, in.value, in.entropy};
    policy_forward(policy, threads);
    if (in.shape.dtype == kFloat64) {
        form_targets<double>(in);
    } else {
        form_targets<float>(in);
    }
    critic_forward(
        {in.shape, in.q, in.actions, in.targets, in.smoothness, in.loss, in.td_error, in.mean, in.mean_low, in.spread},
        threads);
}

}  // namespace softbellman::cpu

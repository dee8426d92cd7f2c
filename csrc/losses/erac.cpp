// The critic's loss of ERAC (eq 18 and 19): policy value of every state under the target critic, regression of the critic on
// reward plus the value of the state that follows.
//
// The two halves of the pass share no input, and a row's target needs the value of the next row alone. So the policy kernel,
// a shift of one vector and the critic kernel read each of the three matrices once and keep nothing but the results: more
// could not be saved by one loop over both.
#include "losses/policy.h"
#include "losses/cpu_kernels.h"

namespace softbellman::cpu {
namespace {

// target[n] = reward[n] + value[n + 1] where row n + 1 is real and continues the sequence of row n.
template <class A>
void form_targets(const Rows& shape, int64_t steps, const A* rewards, const uint8_t* terminal, const A* value, A* targets) {
    for (int64_t n = 0; n < shape.rows; ++n) {
        if (shape.mask != nullptr && shape.mask[n] == 0) {
            targets[n] = A(0);
            continue;
        }
        const bool ends = (n + 1) % steps == 0 || (terminal != nullptr && terminal[n] != 0);
        targets[n] = rewards[n] + (ends ? A(0) : value[n + 1]);  // 0 in masked rows
    }
}

}  // namespace

void erac_forward(const Rows& shape, Matrix logits, Matrix target_q, Matrix q, const int64_t* actions, const void* rewards,
                  const uint8_t* terminal, int64_t steps, double tau, double smoothness, const EracResults& out) {
    policy_forward(shape, logits, target_q, tau, kEntropyExact,
                   {out.value, out.entropy, nullptr, nullptr, nullptr, nullptr});
    if (shape.dtype == kFloat64) {
        form_targets(shape, steps, static_cast<const double*>(rewards), terminal, static_cast<const double*>(out.value),
                     static_cast<double*>(out.targets));
    } else {
        form_targets(shape, steps, static_cast<const float*>(rewards), terminal, static_cast<const float*>(out.value),
                     static_cast<float*>(out.targets));
    }
    critic_forward(shape, q, actions, out.targets, smoothness, out.critic);
}

}  // namespace softbellman::cpu

// The kernels of the losses, in one list for both devices: `device` is cpu or cuda.
#pragma once

#include "bind/kernel.h"
#include "losses/critic.h"
#include "losses/cross_entropy.h"
#include "losses/divergence.h"
#include "losses/erac.h"
#include "losses/policy.h"
#include "losses/sampling.h"
#include "losses/soft_value.h"
#include "losses/token_statistics.h"

#define SB_DEFINE_LOSSES(module, device)                                            \
    define(module, "soft_value_forward", device::soft_value_forward);               \
    define(module, "soft_value_backward", device::soft_value_backward);             \
    define(module, "soft_bellman_forward", device::soft_bellman_forward);           \
    define(module, "soft_bellman_backward", device::soft_bellman_backward);         \
    define(module, "policy_forward", device::policy_forward);                       \
    define(module, "policy_backward", device::policy_backward);                     \
    define(module, "critic_forward", device::critic_forward);                       \
    define(module, "critic_backward", device::critic_backward);                     \
    define(module, "erac_forward", device::erac_forward);                           \
    define(module, "cross_entropy_forward", device::cross_entropy_forward);         \
    define(module, "cross_entropy_backward", device::cross_entropy_backward);       \
    define(module, "divergence_forward", device::divergence_forward);               \
    define(module, "divergence_backward", device::divergence_backward);             \
    define(module, "token_statistics_forward", device::token_statistics_forward);   \
    define(module, "token_statistics_backward", device::token_statistics_backward); \
    define(module, "sample_forward", device::sample_forward)

"""Actor objective over all actions (equation 20), as a loss.

One read of each input; backward one more of each and one write.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.core.checks import check_choice, check_mask, check_not_negative, check_rows, check_same_rows
from softbellman.losses.policy import ENTROPY_MODES, policy


class ActorLoss(NamedTuple):
    """`loss` [...] to minimise and the policy's `entropy` [...] in nats."""

    loss: Tensor
    entropy: Tensor


def actor_loss(
    logits: Tensor, q: Tensor, *, tau: float, mask: Tensor | None = None, entropy: str = "exact"
) -> ActorLoss:
    """`-(sum_w pi(w) q(w) + tau * H(pi))` with pi = softmax(logits), over all V actions (equation 20).

    Differentiable in logits; q is a constant.

    Args:
        logits: unnormalised log-probabilities [..., V] of the actor.
        q: action values [..., V] with the dtype and device of logits; `-inf` only where the policy is 0.
        tau: weight of the entropy, at least 0, in the unit of q.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        entropy: "exact" is equation 20. "normalized" divides tau by `1e-8 + ||log pi||_2`, the norm over the
            tokens of finite logit held constant, as the authors' code does. "none" leaves the entropy out of
            the loss.

    Returns:
        loss [...] in the unit of q and entropy [...] in nats, float64 for float64 logits, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, tau below 0, an unknown
        entropy.

    Example:
        >>> actor_loss(torch.zeros(2), torch.tensor([1.0, 3.0]), tau=1.0)
        ActorLoss(loss=tensor(-2.6931), entropy=tensor(0.6931))
    """
    check_rows("logits", logits)
    check_same_rows("q", q, "logits", logits)
    check_mask(mask, "logits", logits)
    check_not_negative("tau", tau)
    mode = check_choice("entropy", entropy, ENTROPY_MODES)
    value, policy_entropy, *_ = policy(logits, q.detach(), tau, mode, mask)
    return ActorLoss(-value, policy_entropy)

"""Actor objective over all actions, Eq. (20), as a loss."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.reference.policy_value import policy_terms


class ActorLoss(NamedTuple):
    """`loss` [...] to minimise and the policy's `entropy` [...] in nats."""

    loss: Tensor
    entropy: Tensor


def actor_loss(
    logits: Tensor, q: Tensor, *, tau: float, mask: Tensor | None = None, entropy: str = "exact"
) -> ActorLoss:
    """`-(sum_w pi(w) q(w) + tau H(pi))` for logits and q [..., V] -> two of [...]; q is a constant."""
    if entropy not in ("exact", "normalized", "none"):
        raise ValueError(f"entropy must be 'exact', 'normalized' or 'none', got {entropy!r}")
    value, policy_entropy = policy_terms(logits, q.detach(), tau=tau, mask=mask, entropy=entropy)
    return ActorLoss(-value, policy_entropy)

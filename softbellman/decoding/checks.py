"""What a model's logits must be for something to be decoded from them; sampling and beam search say it alike."""

from __future__ import annotations


def check_outcome(what: str, *, undefined: bool, impossible: bool) -> None:
    """Raises ValueError where logits of a live row were no distribution.

    Args:
        what: cannot be done then, such as `no token can be drawn`.
        undefined: an allowed entry was NaN or +inf.
        impossible: every allowed entry was `-inf`.
    """
    if undefined:
        raise ValueError(f"the model gave logits that are not finite (NaN or +inf), {what}")
    if impossible:
        raise ValueError(f"the model gave logits without any finite allowed entry, {what}")

"""Arguments that sampling and beam search share: lengths and forbidden tokens.

Notation: B sources, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softbellman.data.vocabulary import RESERVED, SpecialTokens


def length_limits(max_length: int | Tensor, source: Tensor) -> tuple[Tensor, int]:
    """The longest output of each source, [B] int64 on the source's device, and the largest of them (0 without a source).

    A tensor's numbers are read once, which waits for its device.

    Raises:
        TypeError, ValueError: for a tensor that is not integer [B], or a limit below 1.
    """
    if source.dim() < 2:
        raise ValueError(f"source must be [B, ...], got shape {tuple(source.shape)}")
    count = source.shape[0]
    shortest = longest = 0
    if isinstance(max_length, Tensor):
        if max_length.is_floating_point() or max_length.dtype == torch.bool:
            raise TypeError(f"max_length must hold integers, got {max_length.dtype}")
        if max_length.shape != (count,):
            raise ValueError(
                f"max_length must be one integer or [{count}], got shape {tuple(max_length.shape)}"
            )
        if count:
            shortest, longest = map(int, torch.stack(max_length.aminmax()).tolist())
        limits = max_length.to(device=source.device, dtype=torch.int64)
    else:
        shortest = longest = int(max_length)
        limits = torch.full((count,), longest, dtype=torch.int64, device=source.device)
    if not count:
        return limits, 0
    if shortest < 1:
        raise ValueError(f"max_length must be at least 1, got {shortest}")
    return limits, longest


def forbidden_tokens(
    forbidden: Tensor | Sequence[int] | None,
    allow_unknown: bool,
    vocabulary: int,
    device: torch.device,
    *,
    special: SpecialTokens = RESERVED,
    read: bool = True,
) -> Tensor:
    """The tokens that are never produced, bool [V]: `forbidden`, or `special.never` when it is None.

    `read=False` does not look at the numbers of a mask, which waits for its device.

    Raises:
        TypeError, ValueError: for a mask of another shape or type, an id outside [0, V), or nothing left to
            produce.
    """
    if isinstance(forbidden, Tensor):
        if forbidden.dtype not in (torch.bool, torch.uint8):
            raise TypeError(
                f"forbidden must be a bool tensor [V] or a sequence of ids, got {forbidden.dtype}"
            )
        if forbidden.shape != (vocabulary,):
            raise ValueError(f"forbidden must have shape [{vocabulary}], got {tuple(forbidden.shape)}")
        banned = forbidden.to(device=device, dtype=torch.bool)
        nothing_left = read and bool(banned.all())
    else:
        banned = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        if forbidden is None:
            never = special.unspoken if allow_unknown else special.never
            ids = [token for token in never if token < vocabulary]
        else:
            ids = list(forbidden)
            for token in ids:
                if not 0 <= token < vocabulary:
                    raise ValueError(f"forbidden holds id {token}, outside the vocabulary of {vocabulary}")
        banned[ids] = True
        nothing_left = len(set(ids)) == vocabulary
    if nothing_left:
        raise ValueError(f"forbidden covers all {vocabulary} tokens")
    return banned

"""Exact values of the Hamming payoff, in closed form, for any vocabulary and length.

Sequences have the reference's length L and their end is forced; a token earns 1 where it equals the reference's at its place
and 0 elsewhere. What was said before does not change what can still be earned, so the values depend on the place alone. With A
tokens that can be produced, solving Eq. (7) backwards from V_L = 0 gives

    V_t = V_{t+1} + tau log(exp(1 / tau) + A - 1) = (L - t) tau log(exp(1 / tau) + A - 1),    Q_t(w) = 1(w = y*_t) + V_{t+1}

and at tau -> 0 V_t = L - t. At a place whose reference token cannot be produced nothing is earned: its term is tau log A.

Notation: B references, L padded length, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from softbellman.oracle.targets import INFINITY, check_tau


def hamming_state_values(
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    tau: float,
    reference_lengths: Tensor | None = None,
    special_ids: Iterable[int] = (),
) -> Tensor:
    """V_t, the soft value of the state before token t.

    Args:
        references: int64 tokens, `[B, L]`; a reference is cut before its first `eos_id`.
        vocabulary: V.
        eos_id: the end token.
        tau: at least 0, in tokens.
        reference_lengths: tokens that count, the end included where it is there, `[B]`; None: all L.
        special_ids: tokens that are never produced.

    Returns:
        Values, float64, `[B, L]`; 0 at the end token and behind it.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range; no token left to produce.

    Example:
        >>> references = torch.tensor([[2, 3, 0]])
        >>> hamming_state_values(references, vocabulary=4, eos_id=0, tau=0.0)
        tensor([[2., 1., 0.]], dtype=torch.float64)
    """
    real, _, produced, alphabet = _read(references, vocabulary, eos_id, reference_lengths, special_ids)
    tau = check_tau(tau)
    # tau log(exp(1 / tau) + A - 1), without the overflow of exp
    known = 1.0 + (tau * math.log1p((alphabet - 1) * math.exp(-1.0 / tau)) if tau > 0 else 0.0)
    unknown = tau * math.log(alphabet)
    earned = torch.full(references.shape, unknown, dtype=torch.float64, device=references.device)
    earned = earned.masked_fill(produced, known).masked_fill(~real, 0.0)
    return earned.flip(-1).cumsum(-1).flip(-1)


def hamming_values(
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    tau: float,
    reference_lengths: Tensor | None = None,
    special_ids: Iterable[int] = (),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`Q_t(w)` of every state before token t, whatever tokens came before.

    Args:
        references and the others: as in `hamming_state_values`.
        dtype: of the result.

    Returns:
        Values, `[B, L, V]`. The end is `-inf` (as are special tokens) but in the state in which the reference has its
        end token: there it is 0 and all others are `-inf`. Zeros behind the end.

    Raises:
        TypeError, ValueError: as `hamming_state_values`.

    Example:
        >>> hamming_values(torch.tensor([[2, 0]]), vocabulary=4, eos_id=0, tau=0.0)
        tensor([[[-inf, 0., 1., 0.],
                 [0., -inf, -inf, -inf]]])
    """
    values = hamming_state_values(
        references,
        vocabulary=vocabulary,
        eos_id=eos_id,
        tau=tau,
        reference_lengths=reference_lengths,
        special_ids=special_ids,
    )
    special_ids = tuple(special_ids)
    real, ends, produced, _ = _read(references, vocabulary, eos_id, reference_lengths, special_ids)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    q = following[..., None].repeat(1, 1, vocabulary)
    tokens = torch.where(produced, references, 0)
    q.scatter_add_(-1, tokens[..., None], produced.to(q.dtype)[..., None])
    never = [eos_id, *special_ids]
    q[..., never] = torch.where(real, -INFINITY, 0.0).to(q)[..., None]
    q[ends] = -INFINITY
    q[..., eos_id] = q[..., eos_id].masked_fill(ends, 0.0)
    return q.to(dtype)


def _read(
    references: Tensor,
    vocabulary: int,
    eos_id: int,
    reference_lengths: Tensor | None,
    special_ids: Iterable[int],
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Masks `[B, L]` of the tokens, of the end token and of the tokens that can be produced; how many can be."""
    if references.dtype != torch.int64 or references.dim() != 2:
        raise TypeError(
            f"references must be int64 tokens [B, L], got {references.dtype} of shape {tuple(references.shape)}"
        )
    left_out = {eos_id, *special_ids}
    if not all(0 <= token < vocabulary for token in left_out):
        raise ValueError(f"eos_id and special_ids must lie in [0, {vocabulary}), got {sorted(left_out)}")
    alphabet = vocabulary - len(left_out)
    if alphabet < 1:
        raise ValueError(f"vocabulary must hold a token besides eos_id and special_ids, got {vocabulary}")
    width = references.shape[1]
    counted = torch.ones_like(references, dtype=torch.bool)
    if reference_lengths is not None:
        if reference_lengths.shape != references.shape[:1]:
            raise ValueError(
                f"reference_lengths must have shape ({references.shape[0]},), "
                f"got {tuple(reference_lengths.shape)}"
            )
        counted = torch.arange(width, device=references.device) < reference_lengths[:, None]
    is_end = (references == eos_id) & counted
    ended = is_end.cumsum(-1) > 0
    real = counted & ~ended
    if bool((real & ((references < 0) | (references >= vocabulary))).any()):
        raise ValueError(f"references must hold ids in [0, {vocabulary})")
    ends = is_end & (is_end.cumsum(-1) == 1)
    unproduced = torch.tensor(sorted(left_out), device=references.device)
    return real, ends, real & ~torch.isin(references, unproduced), alphabet

"""Ancestral sampling.

Notation: B sources, K samples per source, N = B*K rows, n <= N rows still open, T steps, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import BOS, EOS, PAD
from softbellman.decoding.limits import forbidden_tokens, length_limits
from softbellman.decoding.stepwise import StepState, StepwiseModel, as_stepwise
from softbellman.losses import sample_tokens


class Samples(NamedTuple):
    """Drawn sequences; T is the longest length drawn. Rows b*K .. b*K+K-1 belong to source b."""

    tokens: Tensor  # [N, T] int64: EOS where it was drawn, PAD behind the end
    lengths: Tensor  # [N] int64, EOS counted
    log_probs: Tensor  # [N, T], of the distribution drawn from; 0 behind the end
    logits: Tensor | None = (
        None  # [M, V] of the M drawn tokens where they are kept: step by step, rows in order
    )


class Sampler(Protocol):
    """`sample` for one model."""

    def __call__(
        self,
        source: Tensor,
        *,
        max_length: int | Tensor,
        seed: int,
        offset: int = 0,
        samples: int = 1,
        temperature: float = 1.0,
        forbidden: Tensor | Sequence[int] | None = None,
        allow_unknown: bool = False,
        keep_logits: bool = False,
        start: StepState | None = None,
    ) -> Samples:
        """Draw `samples` sequences for every source."""


@torch.no_grad()
def sample(
    model: nn.Module | StepwiseModel,
    source: Tensor,
    *,
    max_length: int | Tensor,
    seed: int,
    offset: int = 0,
    samples: int = 1,
    temperature: float = 1.0,
    forbidden: Tensor | Sequence[int] | None = None,
    allow_unknown: bool = False,
    keep_logits: bool = False,
    start: StepState | None = None,
) -> Samples:
    """Draw `samples` sequences for every source, in the model's present mode (call `eval()` for no dropout).

    A draw is a function of (seed, offset + step, row among the open rows): finished rows leave the
    computation, and which rows are left follows from the tokens drawn before, so equal arguments give equal
    tokens. Within a call no two draws share a counter; the next call with the same seed must use an offset
    greater by at least the largest `max_length`.

    Args:
        model: has `begin` and `step`, or is a module mapping (source, prefix) to logits.
        source: what the model reads, batch first: [B, S] int64, or features of images [B, F] or [B, G, F].
        max_length: the largest number of tokens, EOS counted: one for all, or [B].
        seed: key of the random stream.
        offset: where in the stream the first step draws.
        samples: K.
        temperature: divides the logits.
        forbidden: bool [V] or ids that are never drawn; None forbids PAD, BOS and UNK.
        allow_unknown: with `forbidden=None`, lets UNK be drawn.
        keep_logits: return the model's logits too, neither tempered nor forbidden.
        start: the model's state of B rows before the start token where there is one already; else it begins here.

    Raises:
        ValueError: for K < 1, a bad temperature, bad lengths or ids, or logits without any finite allowed
            entry.
    """
    check_sampling(samples, temperature)
    limits, steps = length_limits(max_length, source)
    limits = limits.repeat_interleave(samples)  # (B) -> (N)
    rows, device = limits.shape[0], source.device
    tokens = torch.full((rows, steps), PAD, dtype=torch.int64, device=device)
    log_probs: Tensor | None = None
    lengths = torch.zeros_like(limits)
    if not rows:
        return Samples(tokens, lengths, torch.zeros(0, 0, device=device))

    stepwise = as_stepwise(model)
    state = (stepwise.begin(source) if start is None else start).repeat(samples)
    current = torch.full((rows,), BOS, dtype=torch.int64, device=device)
    open_rows = torch.arange(rows, device=device)  # [n]
    banned: Tensor | None = None
    kept: list[Tensor] = []
    for step in range(steps):
        logits, state = stepwise.step(current, state)
        if banned is None:
            banned = forbidden_tokens(forbidden, allow_unknown, logits.shape[1], device)
        draw = sample_tokens(
            logits, seed=seed, offset=offset + step, temperature=temperature, forbidden=banned
        )
        if keep_logits:
            kept.append(logits)
        current = draw.tokens
        if log_probs is None:
            log_probs = torch.zeros(rows, steps, dtype=draw.log_prob.dtype, device=device)
        tokens[open_rows, step] = current
        log_probs[open_rows, step] = draw.log_prob
        lengths[open_rows] = step + 1
        # A negative token says that nothing could be drawn; it ends the row and is reported below.
        still = ((current != EOS) & (current >= 0) & (limits[open_rows] > step + 1)).nonzero().squeeze(1)
        if still.shape[0] == 0:
            break
        if still.shape[0] < open_rows.shape[0]:
            state, current, open_rows = state.select(still), current[still], open_rows[still]
    assert log_probs is not None
    lowest, longest = torch.stack([tokens.min(), lengths.max()]).tolist()
    check_drawn(lowest)
    return Samples(
        tokens[:, :longest], lengths, log_probs[:, :longest], torch.cat(kept) if keep_logits else None
    )


def check_sampling(samples: int, temperature: float) -> None:
    """Raises ValueError for fewer than one sample or a temperature that is not above 0."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")


def check_drawn(lowest: int) -> None:
    """Raises ValueError where the lowest token is the -1 of a row that could draw nothing."""
    if lowest < 0:
        raise ValueError("the model gave logits without any finite allowed entry, no token can be drawn")

"""Ancestral sampling.

Notation: B sources, K samples per source, N = B*K rows, n <= N rows still open, T steps, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.checks import check_outcome
from softbellman.decoding.limits import forbidden_tokens, length_limits
from softbellman.decoding.nucleus import check_truncation, truncate
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


Sampler: TypeAlias = Callable[..., Samples]
"""`sample` for one model: takes a source and the keyword arguments of `sample`."""


class Request(NamedTuple):
    """The checked arguments of one call of `sample`, of which N is above 0."""

    source: Tensor
    limits: Tensor  # [N] int64
    steps: int  # T, the largest of the limits
    seed: int
    offset: int
    samples: int  # K
    temperature: float
    forbidden: Tensor | Sequence[int] | None
    allow_unknown: bool
    keep_logits: bool
    start: StepState | None
    first_row: int = 0
    forced: Tensor | None = None  # [N, L] int64, negative where a token is drawn
    top_k: int = 0
    top_p: float = 1.0
    special: SpecialTokens = RESERVED

    @property
    def truncated(self) -> bool:
        """Whether unlikely tokens are left out."""
        return self.top_k > 0 or self.top_p < 1.0


class Drawer(ABC):
    """A model that draws whole sequences in a way of its own when it is given to `sample`."""

    @abstractmethod
    def draw(self, request: Request) -> Samples:
        """Draw what is asked for; raises ValueError as `sample` does."""


@torch.no_grad()
def sample(
    model: nn.Module | StepwiseModel | Drawer,
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
    first_row: int = 0,
    forced: Tensor | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    special: SpecialTokens = RESERVED,
) -> Samples:
    """Draw `samples` sequences for every source, in the model's present mode (call `eval()` for no dropout).

    A draw is a function of (seed, offset + step, `first_row` + row), whichever rows have ended: equal arguments give equal
    tokens, and a row draws the same in any part of a batch. Within a call no two draws share a counter. The next call
    with the same seed must use an offset greater by at least the largest `max_length`.

    Args:
        model: has `begin` and `step`, or is a module mapping (source, prefix) to logits.
        source: what the model reads, batch first: [B, S] int64, or features of images [B, F] or [B, G, F].
        max_length: the largest number of tokens, EOS counted: one for all, or [B].
        seed: key of the random stream.
        offset: where in the stream the first step draws.
        samples: K.
        temperature: divides the logits.
        forbidden: bool [V] or ids that are never drawn; None forbids `special.never`: PAD, BOS and UNK.
        allow_unknown: with `forbidden=None`, lets UNK be drawn.
        keep_logits: return the model's logits too, neither tempered nor forbidden.
        start: the model's state of B rows before the start token where there is one already; else it begins here.
        first_row: number of row 0, where the sources are a part of a larger batch: K times the number of sources before.
        forced: int64 [B, L], tokens that are taken instead of drawn ones; where it is negative, and behind L, tokens are drawn.
            The `log_probs` of forced tokens are 0. A forced EOS ends the sequence.
        top_k: draw among the k most probable allowed tokens; 0: among all.
        top_p: draw among the fewest most probable allowed tokens whose tempered probabilities add up to p; 1: among all.
        special: ids of padding, start, end and unknown words in the model's vocabulary.

    Raises:
        ValueError: for K < 1, a bad temperature, top_k or top_p, bad lengths or ids. Also where allowed logits of a live row
            are NaN, +inf or all `-inf`; that is looked at once, at the end, so that no step waits for its device.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    check_truncation(top_k, top_p)
    limits, steps = length_limits(max_length, source)
    limits = limits.repeat_interleave(samples)  # (B) -> (N)
    if forced is not None:
        if forced.dim() != 2 or len(forced) != len(source) or forced.dtype != torch.int64:
            raise ValueError(
                f"forced must be int64 [{len(source)}, L], got {forced.dtype} {tuple(forced.shape)}"
            )
        forced = forced.repeat_interleave(samples, dim=0)  # (B, L) -> (N, L)
    if not len(limits):
        return Samples(limits.new_empty(0, 0), limits, torch.zeros(0, 0, device=source.device))
    request = Request(
        source,
        limits,
        steps,
        seed,
        offset,
        samples,
        temperature,
        forbidden,
        allow_unknown,
        keep_logits,
        start,
        first_row,
        forced,
        top_k,
        top_p,
        special,
    )
    return model.draw(request) if isinstance(model, Drawer) else draw_by_steps(as_stepwise(model), request)


def draw_by_steps(model: StepwiseModel, request: Request) -> Samples:
    """Draw one token after another; rows that have ended leave the computation."""
    source, limits, steps = request.source, request.limits, request.steps
    rows, device, special = limits.shape[0], source.device, request.special
    tokens = torch.full((rows, steps), special.pad, dtype=torch.int64, device=device)
    log_probs: Tensor | None = None
    lengths = torch.zeros_like(limits)
    state = (model.begin(source) if request.start is None else request.start).repeat(request.samples)
    current = torch.full((rows,), special.bos, dtype=torch.int64, device=device)
    open_rows = torch.arange(rows, device=device)  # [n]
    banned: Tensor | None = None
    kept: list[Tensor] = []
    for step in range(steps):
        logits, state = model.step(current, state)
        if banned is None:
            banned = forbidden_tokens(
                request.forbidden, request.allow_unknown, logits.shape[1], device, special=special
            )
        draw = sample_tokens(
            truncate(logits, banned, request.temperature, request.top_k, request.top_p)
            if request.truncated
            else logits,
            seed=request.seed,
            offset=request.offset + step,
            temperature=request.temperature,
            forbidden=banned,
            row_numbers=open_rows + request.first_row if request.first_row else open_rows,
        )
        if request.keep_logits:
            kept.append(logits)
        current, log_prob = draw.tokens, draw.log_prob
        if request.forced is not None and step < request.forced.shape[1]:
            given = request.forced[open_rows, step]
            current = torch.where(given < 0, current, given)
            log_prob = log_prob.masked_fill(given >= 0, 0.0)
        if log_probs is None:
            log_probs = torch.zeros(rows, steps, dtype=draw.log_prob.dtype, device=device)
        tokens[open_rows, step] = current
        log_probs[open_rows, step] = log_prob
        lengths[open_rows] = step + 1
        # A negative token says that nothing could be drawn; it ends the row and is reported below.
        still = (
            ((current != special.eos) & (current >= 0) & (limits[open_rows] > step + 1)).nonzero().squeeze(1)
        )
        if still.shape[0] == 0:
            break
        if still.shape[0] < open_rows.shape[0]:
            state, current, open_rows = state.select(still), current[still], open_rows[still]
    assert log_probs is not None
    # One transfer from the device for all that is looked at.
    longest, *verdict = torch.stack([lengths.max(), *drawn_verdict(tokens, log_probs)]).tolist()
    check_drawn(verdict)
    return Samples(
        tokens[:, :longest],
        lengths,
        log_probs[:, :longest],
        torch.cat(kept) if request.keep_logits else None,
    )


def drawn_verdict(tokens: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a row was no distribution, and whether one had nothing to draw, as 0 or 1; for `check_drawn`.

    `sample_tokens` gives NaN as log-probability where an allowed logit is NaN or +inf, and token -1 where none is finite.
    """
    return log_probs.isnan().any().long(), (tokens < 0).any().long()


def check_drawn(verdict: Sequence[int]) -> None:
    """Raises ValueError where a `drawn_verdict` says that something could not be drawn."""
    undefined, impossible = map(bool, verdict)
    check_outcome("no token can be drawn", undefined=undefined, impossible=impossible)

"""Tokens drawn by the Gumbel-max rule from a counter-based generator, in one read of the logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_counter_or_tensor,
    check_ids,
    check_mask,
    check_temperature,
    check_vocabulary_vector,
)
from softbellman.core.chunks import RealRows, RowsTensors, choose_chunk_rows, open_chunks
from softbellman.core.head import Head, Rows, check_row_argument
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.operator import register


class TokenSample(NamedTuple):
    """Drawn `tokens` `[...]`, their `log_prob` `[...]` and the `entropy` `[...]` of what they were drawn from."""

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor


def sample_tokens(
    logits: Rows,
    *,
    seed: int | Tensor,
    offset: int | Tensor = 0,
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    mask: Tensor | None = None,
    row_numbers: Tensor | None = None,
) -> TokenSample:
    """One token per row, drawn from softmax(logits / temperature) over the tokens that are not forbidden.

    The noise of (row, token) is a pure function of seed, offset, the row's number and token (Philox4x32-10):
    the same call gives the same tokens on CPU and GPU and for any number of threads, and a row does not depend
    on the others. Give every decoding step its own offset. Nothing here is differentiable.

    The draws of a `Head` are those of its logits, but where the rounding of a matmul, which may depend on its number
    of rows, decides between two tokens.

    Args:
        logits: unnormalised log-probabilities `[..., V]`, a tensor or a `Head`, without NaN and `+inf`.
        seed: from 0 to 2**63 - 1; as an int64 tensor of one number on the device of the logits it is read when
            the kernel runs, so that a captured CUDA graph draws anew at every replay; of such a number all 64 bits count.
        offset: the same; independent draws under one seed.
        temperature: between 1e-30 and 1e30.
        forbidden: bool `[V]`, True for tokens that must not be drawn.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give zeros.
        row_numbers: int64 `[...]`, the numbers of the rows in the noise, modulo 2**32; None counts the leading
            dimensions in row-major order from 0. Rows of one number share their noise.

    Returns:
        tokens int64 `[...]`; log_prob and entropy `[...]` in nats of the restricted distribution, float64 for
        float64 logits, else float32. A row with no token to draw gives token -1, log_prob `-inf` and entropy
        0. On a GPU, where to look would synchronize, a row with NaN or `+inf` logits has a log_prob of NaN.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range. On the CPU also logits that hold
            NaN or `+inf`.

    Example:
        >>> sample_tokens(torch.tensor([0.0, -torch.inf]), seed=1)
        TokenSample(tokens=tensor(0), log_prob=tensor(0.), entropy=tensor(0.))
    """
    check_row_argument("logits", logits)
    seed, seed_at = check_counter_or_tensor("seed", seed, "logits", logits)
    offset, offset_at = check_counter_or_tensor("offset", offset, "logits", logits)
    check_temperature("temperature", temperature)
    check_vocabulary_vector("forbidden", forbidden, "logits", logits, boolean=True)
    mask = check_mask(mask, "logits", logits)
    if row_numbers is not None:
        check_ids("row_numbers", row_numbers, "logits", logits)
    if isinstance(logits, Head):
        if logits.shards is not None:
            raise ValueError(
                "a head of sample_tokens must have all rows of its weight in one process; gather its weight first"
            )
        options = (seed, offset, temperature, forbidden)
        return _sample_head(logits.cast().detach(), options, mask, row_numbers, (seed_at, offset_at))
    arguments = seed, offset, temperature, forbidden, mask, seed_at, offset_at, row_numbers, 0
    return TokenSample(*_sample(logits.detach(), *arguments))


def _sample_head(
    head: Head,
    options: tuple[int, int, float, Tensor | None],
    mask: Tensor | None,
    row_numbers: Tensor | None,
    counters: tuple[Tensor | None, Tensor | None],
) -> TokenSample:
    """The draws of a head, a chunk of rows at a time; each row keeps its number in the noise."""
    shape = head.shape[:-1]
    rows = RealRows(shape, None)
    rows.mask = (
        None if mask is None else mask.reshape(-1)
    )  # masked rows keep their places; their hidden states are cleared
    size = choose_chunk_rows(rows.count, head.weight, head.chunk_rows or 0)
    source = RowsTensors(
        head.hidden, head.weight, head.bias, head.scale, head.softcap or 0.0, head.vocabulary or 0
    )
    chunks = open_chunks(source, rows, size, head.hidden.dtype)
    numbers = None if row_numbers is None else row_numbers.reshape(-1)
    parts = []
    for part in rows.chunks(size):
        chosen = None if numbers is None else numbers[part]
        parts.append(_sample(chunks.logits(part), *options, rows.real(part), *counters, chosen, part.start))
    if not parts:
        return TokenSample(*(result.view(shape) for result in _results(head.hidden.new_empty(0, 1))))
    return TokenSample(*(torch.cat(results).view(shape) for results in zip(*parts, strict=True)))


def sample_forward(
    logits: Tensor,
    seed: int,
    offset: int,
    temperature: float,
    forbidden: Tensor | None,
    mask: Tensor | None,
    seed_at: Tensor | None = None,
    offset_at: Tensor | None = None,
    row_numbers: Tensor | None = None,
    row_base: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, log-probabilities and entropies of rows `[..., V]`, which without numbers count from `row_base` in the noise.

    On the CPU a row with NaN or `+inf` logits raises ValueError; on a device it gives NaN, since to look would
    synchronize.
    """
    tokens, log_prob, entropy = results = _results(logits)
    launch(
        "sample_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        temperature=temperature,
        seed=seed,
        offset=offset,
        row_base=row_base,
        seed_at=seed_at,
        offset_at=offset_at,
        row_numbers=vector(row_numbers),
        forbidden=vector(forbidden),
        mask=vector(mask),
        tokens=tokens,
        log_prob=log_prob,
        entropy=entropy,
    )
    if not logits.is_cuda and bool(log_prob.isnan().any()):
        row = int(log_prob.reshape(-1).isnan().nonzero()[0])
        raise ValueError(
            f"logits are not finite (NaN or +inf) in row {row} of {log_prob.numel()}, no token can be drawn"
        )
    return results


def _results(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_prob, entropy = several_per_row(logits, 2)
    return torch.empty_like(log_prob, dtype=torch.int64), log_prob, entropy


_sample = register(
    "sample_tokens",
    "(Tensor logits, SymInt seed, SymInt offset, float temperature, Tensor? forbidden, Tensor? mask, "
    "Tensor? seed_at=None, Tensor? offset_at=None, Tensor? row_numbers=None, SymInt row_base=0) "
    "-> (Tensor tokens, Tensor log_prob, Tensor entropy)",
    kernel=sample_forward,
    fake=lambda logits, *_: _results(logits),
)

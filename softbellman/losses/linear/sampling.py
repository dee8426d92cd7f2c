"""Tokens drawn from hidden states, the logits of a chunk of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_counter_or_tensor,
    check_ids,
    check_mask,
    check_positive,
    check_vocabulary_vector,
)
from softbellman.core.launch import per_row
from softbellman.core.operator import register
from softbellman.losses.linear._arguments import check_chunk_rows, check_head
from softbellman.losses.linear._head import Head
from softbellman.losses.linear._rows import RealRows, choose_chunk_rows
from softbellman.losses.sampling import TokenSample, sample_rows


def linear_sample_tokens(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    seed: int | Tensor,
    offset: int | Tensor = 0,
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    mask: Tensor | None = None,
    row_numbers: Tensor | None = None,
    chunk_rows: int | None = None,
) -> TokenSample:
    """`sample_tokens(hidden @ weight.T + bias, seed=seed, ...)` without the logits of more than a chunk.

    The noise of a row does not depend on the chunk it lies in: the draws are those of `sample_tokens`, but where the
    rounding of a matrix product, which may depend on its number of rows, decides between two tokens. Nothing here is
    differentiable.

    Args:
        hidden: hidden states [..., H].
        weight: output embeddings [V, H] with the dtype and device of hidden.
        bias: [V] like weight, or None; `-inf` forbids a token.
        seed: from 0 to 2**63 - 1, or an int64 tensor of one number on the device of hidden.
        offset: the same; independent draws under one seed.
        temperature: above 0.
        forbidden: bool [V], True for tokens that must not be drawn.
        mask: bool [...], True for real rows. Masked rows are not read and give zeros.
        row_numbers: int64 [...], the numbers of the rows in the noise; None counts them in row-major order from 0.
        chunk_rows: rows whose logits exist at one time; None chooses (docs/linear.md).

    Returns:
        tokens int64 [...]; log_prob and entropy [...] in nats of the restricted distribution, float64 for
        float64 hidden, else float32. A row with no token to draw gives token -1, log_prob `-inf` and entropy 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, temperature not above 0,
        chunk_rows below 1.

    Example:
        >>> linear_sample_tokens(torch.ones(1), torch.tensor([[0.0], [-torch.inf]]), seed=1)
        TokenSample(tokens=tensor(0), log_prob=tensor(0.), entropy=tensor(0.))
    """
    head = check_head(hidden, weight, bias).detach()
    seed, seed_at = check_counter_or_tensor("seed", seed, "hidden", hidden)
    offset, offset_at = check_counter_or_tensor("offset", offset, "hidden", hidden)
    check_positive("temperature", temperature)
    check_vocabulary_vector("forbidden", forbidden, "weight", weight.t(), boolean=True)
    check_mask(mask, "hidden", hidden)
    if row_numbers is not None:
        check_ids("row_numbers", row_numbers, "hidden", hidden)
    chunk = check_chunk_rows(chunk_rows)
    arguments = seed, offset, temperature, forbidden, mask, chunk, seed_at, offset_at, row_numbers
    return TokenSample(*_sample(*head, *arguments))


def _forward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seed: int,
    offset: int,
    temperature: float,
    forbidden: Tensor | None,
    mask: Tensor | None,
    chunk_rows: int,
    seed_at: Tensor | None = None,
    offset_at: Tensor | None = None,
    row_numbers: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    # A row's number enters its noise, so masked rows keep their places; their hidden states are cleared.
    rows = RealRows(hidden, None)
    rows.mask = None if mask is None else mask.reshape(-1)
    chunk = choose_chunk_rows(rows.count, weight, chunk_rows)
    head = Head(hidden, weight, bias, rows, chunk)
    numbers = None if row_numbers is None else row_numbers.reshape(-1)
    results = [result.view(-1) for result in _results(hidden)]
    for part in rows.chunks(chunk):
        drawn = sample_rows(
            head.logits(part),
            *(seed, offset, temperature, forbidden, rows.real(part), seed_at, offset_at),
            row_numbers=None if numbers is None else numbers[part],
            row_base=part.start,
        )
        for result, values in zip(results, drawn, strict=True):
            rows.put(result, part, values)
    tokens, log_prob, entropy = (result.view(hidden.shape[:-1]) for result in results)
    return tokens, log_prob, entropy


def _results(hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    tokens = hidden.new_empty(hidden.shape[:-1], dtype=torch.int64)
    return tokens, per_row(hidden), per_row(hidden)


_sample = register(
    "linear_sample_tokens",
    "(Tensor hidden, Tensor weight, Tensor? bias, SymInt seed, SymInt offset, float temperature, Tensor? forbidden, "
    "Tensor? mask, int chunk_rows, Tensor? seed_at=None, Tensor? offset_at=None, "
    "Tensor? row_numbers=None) -> (Tensor tokens, Tensor log_prob, Tensor entropy)",
    kernel=_forward,
    fake=lambda hidden, *_: _results(hidden),
)

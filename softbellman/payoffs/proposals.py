"""The proposals of random edits: how their arguments are checked and reach the native core.

Notation: B references, K samples per reference, L and W padded lengths of references and edited sequences, A
the size of the alphabet of substitutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import (
    check_choice,
    check_fraction,
    check_integer,
    check_not_negative,
    check_positive,
)
from softbellman.core.launch import CODES, launch
from softbellman.core.operator import register
from softbellman.payoffs.batches import rows_of_tokens, token_field

PROPOSALS = ("ngram", "corrupt", "hamming", "edit")  # by the native core's number
HAMMING, EDIT = 2, 3
LARGEST_VOCABULARY = 2**24
LARGEST_ORDER, MOST_SPECIALS, MOST_OPERATIONS, DEFAULT_OPERATIONS = 16, 16, 64, 16
LARGEST_LENGTH = 2**20
_LARGEST_TABLE = 2**24  # thresholds


# proposal, vocabulary, special_ids, max_order, rate, temperature, max_distance, operation_weights
_Arguments = tuple[int, int, tuple[int, ...], int, float, float, int, tuple[float, ...]]


def proposal_arguments(
    length: int,
    proposal: str,
    vocabulary: int,
    special_ids: Sequence[int],
    max_order: int,
    rate: float,
    temperature: float,
    max_distance: int | None,
    operation_weights: Sequence[float],
) -> _Arguments:
    """The proposal, checked, as the operators take it, for references of `length` padded tokens."""
    settings = (length, proposal, vocabulary, tuple(special_ids), max_order, rate, temperature, max_distance)
    if torch.compiler.is_compiling():
        return _check_proposal(*settings, tuple(operation_weights))
    return _checked_proposal(*settings, tuple(operation_weights))


def _check_proposal(
    length: int,
    proposal: str,
    vocabulary: int,
    special_ids: Sequence[int],
    max_order: int,
    rate: float,
    temperature: float,
    max_distance: int | None,
    operation_weights: Sequence[float],
) -> _Arguments:
    code = check_choice("proposal", proposal, PROPOSALS)
    check_integer("vocabulary", vocabulary, 1, LARGEST_VOCABULARY)
    for token in special_ids:
        check_integer("special_ids", token, kind="hold ints")
    specials = tuple(sorted({token for token in special_ids if 0 <= token < vocabulary}))
    if len(specials) > MOST_SPECIALS:
        raise ValueError(f"special_ids must hold at most {MOST_SPECIALS} ids, got {len(specials)}")
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    check_fraction("rate", rate)
    check_positive("temperature", temperature)
    weights = operation_weights
    if len(weights) != 3:
        raise ValueError(
            f"operation_weights must be three (substitution, insertion, deletion), got {len(weights)}"
        )
    for weight in weights:
        check_not_negative("operation_weights", weight)
    if not any(weights):
        raise ValueError("operation_weights must not all be 0")
    if max_distance is not None:
        check_integer("max_distance", max_distance, 0, MOST_OPERATIONS if code == EDIT else LARGEST_LENGTH)
    if code == HAMMING:
        distance = length if max_distance is None else min(length, max_distance)
    elif code == EDIT:
        distance = min(length, DEFAULT_OPERATIONS) if max_distance is None else max_distance
    else:
        distance = 0
    if code in (HAMMING, EDIT) and (length + 1) * (distance + 1) * 4 > _LARGEST_TABLE:
        raise ValueError(
            f"max_distance must be at most 2**22 / (tokens in a row), got {distance} with {length} tokens"
        )
    return (
        code,
        vocabulary,
        specials,
        max_order,
        float(rate),
        float(temperature),
        distance,
        tuple(float(weight) for weight in weights),
    )


# A training loop asks for the same few over and over.
_checked_proposal = lru_cache(maxsize=256, typed=True)(_check_proposal)


class _Tables(NamedTuple):
    thresholds: Tensor | None  # int64
    log_normalizers: Tensor | None  # float64 [L + 1]
    scale_exponent: int

    def on(self, device: torch.device) -> _Tables:
        """A copy of the tensors, from pinned memory on the current stream."""
        thresholds, log_normalizers = (
            None if table is None else table.to(device, non_blocking=True) for table in self[:2]
        )
        return _Tables(thresholds, log_normalizers, self.scale_exponent)


_NO_TABLES = _Tables(None, None, 0)


@lru_cache(maxsize=64)
def _tables(
    proposal: int,
    length: int,
    alphabet: int,
    temperature: float,
    distance: int,
    weights: tuple[float, ...],
    pinned: bool,
) -> _Tables:
    """The host's tables of the distances; never written again, so they may be shared."""
    if proposal not in (HAMMING, EDIT):
        return _NO_TABLES
    cells = (length + 1) * (distance + 1)
    cells *= 4 if proposal == EDIT else 1
    thresholds = torch.empty(cells, dtype=torch.int64, device="cpu", pin_memory=pinned)
    normalizers = torch.empty(length + 1, dtype=torch.float64, device="cpu", pin_memory=pinned)
    substitution, insertion, deletion = weights
    exponent = native.cpu.fill_edit_tables(
        edit=proposal == EDIT,
        length=length,
        max_distance=distance,
        alphabet=alphabet,
        temperature=temperature,
        substitution=substitution,
        insertion=insertion,
        deletion=deletion,
        thresholds=(thresholds.data_ptr(), thresholds.numel(), CODES[thresholds.dtype]),
        log_normalizers=(normalizers.data_ptr(), normalizers.numel(), CODES[normalizers.dtype]),
    )
    return _Tables(thresholds, normalizers, exponent)


def _run(
    tokens: Tensor,
    lengths: Tensor | None,
    edited: Tensor,
    edited_lengths: Tensor | None,
    log_density: Tensor,
    arguments: tuple[Any, ...],
    **draw: Any,
) -> None:
    """Fill the results, of which every element is written, where the references live.

    Args:
        tokens, lengths: references `[B, L]` and `[B]`.
        edited, edited_lengths: sequences `[B, K, W]` and `[B, K]`, drawn or given.
        log_density: `[B, K]`.
        arguments: those of `proposal_arguments`, and whether sample 0 is the reference.
        draw: the fields draw, pad_id, seed and offset.
    """
    if log_density.numel() == 0:
        return
    proposal, vocabulary, special_ids, max_order, rate, temperature, max_distance, weights, keep_gold = (
        arguments
    )
    tokens = rows_of_tokens(tokens)
    substitution, insertion, deletion = weights
    tables = _NO_TABLES
    if proposal in (HAMMING, EDIT):  # the others are spared the look-up
        alphabet = vocabulary - len(special_ids)
        tables = _tables(
            proposal, tokens.shape[-1], alphabet, temperature, max_distance, tuple(weights), tokens.is_cuda
        )
        if tokens.is_cuda:
            # A copy a call, ordered on the stream: one kept on the device could be read by another stream too early.
            tables = tables.on(tokens.device)
    launch(
        "edit_rows",
        log_density,
        tokens=token_field("tokens", tokens, log_density),
        lengths=lengths,
        samples=edited.shape[1],
        width=edited.shape[2],
        edited=edited,
        edited_lengths=edited_lengths,
        log_density=log_density,
        proposal=proposal,
        vocabulary=vocabulary,
        special_ids=special_ids,
        max_order=max_order,
        rate=rate,
        temperature=temperature,
        max_distance=max_distance,
        substitution=substitution,
        insertion=insertion,
        deletion=deletion,
        thresholds=tables.thresholds,
        log_normalizers=tables.log_normalizers,
        scale_exponent=tables.scale_exponent,
        keep_gold=keep_gold,
        **draw,
    )


def _new_edits(
    tokens: Tensor, samples: int, proposal: int, max_distance: int
) -> tuple[Tensor, Tensor, Tensor]:
    sources, length = tokens.shape
    width = length + (max_distance if proposal == EDIT else 0)
    return (
        tokens.new_empty(sources, samples, width),
        tokens.new_empty(sources, samples),
        tokens.new_empty(sources, samples, dtype=torch.float64),
    )


def _sample(
    tokens: Tensor,
    lengths: Tensor | None,
    samples: int,
    pad_id: int,
    seed: int,
    offset: int,
    *proposal: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    edited, edited_lengths, log_density = _new_edits(tokens, samples, proposal[0], proposal[6])
    draw = {"draw": True, "pad_id": pad_id, "seed": seed, "offset": offset}
    _run(tokens, lengths, edited, edited_lengths, log_density, proposal, **draw)
    return edited, edited_lengths, log_density


def _score(
    tokens: Tensor, lengths: Tensor | None, edited: Tensor, edited_lengths: Tensor | None, *proposal: Any
) -> Tensor:
    log_density = edited.new_empty(*edited.shape[:2], dtype=torch.float64)
    given = {"draw": False, "pad_id": 0, "seed": 0, "offset": 0}
    _run(tokens, lengths, edited.contiguous(), edited_lengths, log_density, proposal, **given)
    return log_density


_PROPOSAL_SCHEMA = (
    "int proposal, SymInt vocabulary, int[] special_ids, int max_order, float rate, float temperature, "
    "SymInt max_distance, float[] operation_weights, bool keep_gold"
)
edit_samples = register(
    "edit_samples",
    "(Tensor tokens, Tensor? lengths, SymInt samples, SymInt pad_id, SymInt seed, SymInt offset, "
    f"{_PROPOSAL_SCHEMA}) -> (Tensor tokens, Tensor lengths, Tensor log_density)",
    kernel=_sample,
    fake=lambda tokens, lengths, samples, pad_id, seed, offset, *proposal: _new_edits(
        tokens, samples, proposal[0], proposal[6]
    ),
)
edit_density = register(
    "edit_density",
    f"(Tensor tokens, Tensor? lengths, Tensor edited, Tensor? edited_lengths, {_PROPOSAL_SCHEMA}) -> Tensor",
    kernel=_score,
    fake=lambda tokens, lengths, edited, *_: edited.new_empty(*edited.shape[:2], dtype=torch.float64),
)

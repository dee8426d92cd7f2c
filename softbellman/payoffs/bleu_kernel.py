"""How BLEU's arguments are checked and reach the native core.

Notation: B sources, K samples per source, R references per source, T and L padded lengths, n the longest
n-gram."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import check_choice
from softbellman.core.launch import pointer, vector
from softbellman.core.operator import register
from softbellman.payoffs.tokens import (
    check_id,
    check_lengths,
    check_pair,
    check_tokens,
    refuse_invalid_lengths,
    unit_stride,
)

SMOOTHINGS = ("none", "floor", "add-k", "exp", "add-one-all")  # by the native core's number
PREFIX, SENTENCE, REWARD = 0, 1, 2
LARGEST_ORDER = 8
_DEFAULT_VALUES = {"floor": 0.1, "add-k": 1.0, "add-one-all": 1.0}
_LARGEST_INDEX = 2**28  # n-grams of one source's references


def scoring_arguments(
    smoothing: str, smooth_value: float | None, effective_order: bool
) -> tuple[int, float, bool]:
    code = check_choice("smoothing", smoothing, SMOOTHINGS)
    if smooth_value is None:
        return code, _DEFAULT_VALUES.get(smoothing, 0.0), bool(effective_order)
    if smoothing not in ("floor", "add-k"):
        raise ValueError(
            f"smooth_value belongs to 'floor' and 'add-k', got {smooth_value} with {smoothing!r}"
        )
    if isinstance(smooth_value, bool) or not isinstance(smooth_value, (int, float)):
        raise TypeError(f"smooth_value must be a Python number, got {type(smooth_value).__name__}")
    if smooth_value != 0 and not 1e-30 <= smooth_value <= 1e30:
        raise ValueError(f"smooth_value must be 0 or between 1e-30 and 1e30, got {smooth_value}")
    return code, float(smooth_value), bool(effective_order)


def is_float64(dtype: torch.dtype) -> bool:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    return dtype == torch.float64


def batch_arguments(
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    max_order: int,
    eos_id: int | None,
    unmatched_id: int | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, int, int | None, int | None]:
    """The arguments, checked: hypotheses [B, K, T], references [B, R, L], lengths [B, K] and [B, R]."""
    check_tokens("hypotheses", hypotheses, (2, 3))
    check_tokens("references", references, (2, 3))
    check_pair(hypotheses, references)
    if isinstance(max_order, bool) or not isinstance(max_order, int):
        raise TypeError(f"max_order must be an int, got {type(max_order).__name__}")
    if not 1 <= max_order <= LARGEST_ORDER:
        raise ValueError(f"max_order must be between 1 and {LARGEST_ORDER}, got {max_order}")
    check_id("eos_id", eos_id, optional=True)
    check_id("unmatched_id", unmatched_id, optional=True)
    hypothesis_lengths = check_lengths("hypothesis_lengths", hypothesis_lengths, "hypotheses", hypotheses)
    reference_lengths = check_lengths("reference_lengths", reference_lengths, "references", references)
    if references.dim() == 2:  # (B, L) -> (B, 1, L)
        references = references.unsqueeze(1)
        reference_lengths = None if reference_lengths is None else reference_lengths.unsqueeze(1)
    if hypotheses.dim() == 2:  # (B, T) -> (B, 1, T)
        hypotheses = hypotheses.unsqueeze(1)
        hypothesis_lengths = None if hypothesis_lengths is None else hypothesis_lengths.unsqueeze(1)
    if references.shape[1] == 0:
        raise ValueError(f"references must hold at least one per source, got shape {tuple(references.shape)}")
    if references.shape[1] * references.shape[2] * max_order > _LARGEST_INDEX:
        raise ValueError(
            f"references must have at most 2**28 n-grams per source, got {max_order} orders of "
            f"{references.shape[1]} references of {references.shape[2]} tokens"
        )
    return hypotheses, references, hypothesis_lengths, reference_lengths, max_order, eos_id, unmatched_id


def batch_fields(
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    max_order: int,
    eos_id: int | None,
    unmatched_id: int | None,
) -> tuple[int, ...]:
    """A batch as the native core takes it: addresses, strides, sizes and ids."""
    return (
        hypotheses.data_ptr(),
        *hypotheses.stride()[:2],
        pointer(hypothesis_lengths),
        references.data_ptr(),
        *references.stride()[:2],
        pointer(reference_lengths),
        *hypotheses.shape,
        *references.shape[1:],
        max_order,
        eos_id is not None,
        0 if eos_id is None else eos_id,
        unmatched_id is not None,
        0 if unmatched_id is None else unmatched_id,
    )


def launch(
    workspace_size: str,
    kernel: str,
    arguments: tuple[Any, ...],
    out: Tensor,
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    *identities: Any,
) -> Tensor:
    """Fill `out`, of which every element is written, where the hypotheses live."""
    if out.numel() == 0:
        return out
    hypotheses, references = unit_stride(hypotheses), unit_stride(references)
    hypothesis_lengths, reference_lengths = vector(hypothesis_lengths), vector(reference_lengths)
    batch = batch_fields(hypotheses, references, hypothesis_lengths, reference_lengths, *identities)
    place: tuple[int, ...]
    if hypotheses.is_cuda:
        core, index = native.cuda(), hypotheses.device.index
        place = (index, torch.cuda.current_stream(index).cuda_stream)
    else:
        core, place = native.cpu, (torch.get_num_threads(),)
        refuse_invalid_lengths("hypothesis_lengths", hypothesis_lengths, hypotheses.shape[-1])
        refuse_invalid_lengths("reference_lengths", reference_lengths, references.shape[-1])
    size = getattr(core, workspace_size)(batch, *place)
    workspace = torch.empty(size, dtype=torch.uint8, device=hypotheses.device)
    getattr(core, kernel)(batch, *arguments, out.data_ptr(), workspace.data_ptr(), *place)
    return out


def new_scores(hypotheses: Tensor, output: int, float64: bool) -> Tensor:
    shape = hypotheses.shape[:-1] if output == SENTENCE else hypotheses.shape
    return hypotheses.new_empty(*shape, dtype=torch.float64 if float64 else torch.float32)


def _scores(*arguments: Any) -> Tensor:
    batch, (smoothing, smooth_value, effective_order, output, scaled, float64) = arguments[:7], arguments[7:]
    out = new_scores(arguments[0], output, float64)
    scoring = (smoothing, smooth_value, effective_order, output, scaled, float64)
    return launch("bleu_workspace", "bleu_scores", scoring, out, *batch)


def _new_counts(hypotheses: Tensor, max_order: int, every_prefix: bool) -> Tensor:
    shape = hypotheses.shape if every_prefix else hypotheses.shape[:-1]
    return hypotheses.new_empty(*shape, 2 * max_order + 2)


def _counts(*arguments: Any) -> Tensor:
    batch, every_prefix = arguments[:7], arguments[7]
    out = _new_counts(arguments[0], batch[4], every_prefix)
    return launch("bleu_workspace", "bleu_counts", (every_prefix,), out, *batch)


BATCH_SCHEMA = (
    "Tensor hypotheses, Tensor references, Tensor? hypothesis_lengths, Tensor? reference_lengths, "
    "int max_order, int? eos_id, int? unmatched_id"
)
bleu_scores = register(
    "bleu_scores",
    f"({BATCH_SCHEMA}, int smoothing, float smooth_value, bool effective_order, int output, bool scaled, "
    "bool float64) -> Tensor",
    kernel=_scores,
    fake=lambda *arguments: new_scores(arguments[0], arguments[10], arguments[12]),
)
bleu_counts = register(
    "bleu_counts",
    f"({BATCH_SCHEMA}, bool every_prefix) -> Tensor",
    kernel=_counts,
    fake=lambda *arguments: _new_counts(arguments[0], arguments[4], arguments[7]),
)

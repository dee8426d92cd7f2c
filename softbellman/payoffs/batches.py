"""Batches of tokens: what every payoff checks of them, and how they reach the native core.

Notation: B sources, K samples per source, R references per source, T and L padded lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import check_choice, check_dense, check_integer
from softbellman.core.launch import CODES, launch

BATCH_SCHEMA = (
    "Tensor hypotheses, Tensor references, Tensor? hypothesis_lengths, Tensor? reference_lengths, "
    "int? eos_id, int? unmatched_id"
)
PREFIX, SENTENCE, REWARD = 0, 1, 2  # PayoffOutput of csrc/payoffs/token_batch.h
LARGEST_ORDER = 8


class TokenBatch(NamedTuple):
    """The leading arguments of an operator, those of `BATCH_SCHEMA`.

    `hypotheses` `[B, T]` or `[B, K, T]`, `references` `[B, L]` or `[B, R, L]`, lengths int64 without the last
    dimension.
    """

    hypotheses: Tensor
    references: Tensor
    hypothesis_lengths: Tensor | None
    reference_lengths: Tensor | None
    eos_id: int | None = None
    unmatched_id: int | None = None


def check_batch(
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None = None,
    unmatched_id: int | None = None,
    *,
    reference_dimensions: Sequence[int] = (2, 3),
    longest: int | None = None,
) -> TokenBatch:
    """The arguments, refused where their types, shapes or devices are wrong; contents are the kernels' to check."""
    check_tokens("hypotheses", hypotheses, (2, 3), longest=longest)
    check_tokens("references", references, reference_dimensions, longest=longest)
    if references.shape[0] != hypotheses.shape[0]:
        raise ValueError(
            f"references must have {hypotheses.shape[0]} sources like hypotheses, got {references.shape[0]}"
        )
    if references.device != hypotheses.device:
        raise ValueError(
            f"references must be on the device of hypotheses, {hypotheses.device}, got {references.device}"
        )
    check_id("eos_id", eos_id)
    check_id("unmatched_id", unmatched_id)
    return TokenBatch(
        hypotheses,
        references,
        check_lengths("hypothesis_lengths", hypothesis_lengths, "hypotheses", hypotheses),
        check_lengths("reference_lengths", reference_lengths, "references", references),
        eos_id,
        unmatched_id,
    )


def check_tokens(name: str, tokens: Tensor, dimensions: Sequence[int], *, longest: int | None = None) -> None:
    """int64 token ids on the CPU or a CUDA device, of one of the given numbers of dimensions."""
    check_dense(name, tokens)
    if tokens.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 token ids, got {tokens.dtype}")
    if not (tokens.is_cpu or tokens.is_cuda):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, got {tokens.device}")
    if tokens.dim() not in dimensions:
        raise ValueError(
            f"{name} must have {' or '.join(map(str, dimensions))} dimensions, got shape {tuple(tokens.shape)}"
        )
    if longest is not None and tokens.shape[-1] > longest:
        raise ValueError(
            f"{name} must hold at most 2**{longest.bit_length() - 1} tokens in a row, got {tokens.shape[-1]}"
        )


def check_lengths(name: str, lengths: Tensor | None, tokens_name: str, tokens: Tensor) -> Tensor | None:
    """None, or one int64 or int32 length for each row of `tokens`; returned as int64."""
    if lengths is None:
        return None
    check_dense(name, lengths)
    if lengths.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 or int32, got {lengths.dtype}")
    if lengths.shape != tokens.shape[:-1]:
        raise ValueError(
            f"{name} must have shape {tuple(tokens.shape[:-1])}, that of {tokens_name} without its last "
            f"dimension, got {tuple(lengths.shape)}"
        )
    if lengths.device != tokens.device:
        raise ValueError(
            f"{name} must be on the device of {tokens_name}, {tokens.device}, got {lengths.device}"
        )
    return lengths.to(torch.int64)


def check_id(name: str, token: int | None) -> None:
    """A token id of any value, or None."""
    if token is not None:
        check_integer(name, token, kind="be an int or None")


def check_float_type(dtype: torch.dtype) -> bool:
    """Whether scores are float64; else they are float32."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    return dtype == torch.float64


def check_scale(scale: str) -> bool:
    """Whether rewards are multiplied by the length of the references."""
    return check_choice("scale", scale, ("none", "reference_length")) == 1


def rows_of_tokens(tokens: Tensor) -> Tensor:
    """The tokens with the elements of a row side by side; hold it until the kernel ran."""
    return tokens if tokens.stride(-1) == 1 or tokens.shape[-1] <= 1 else tokens.contiguous()


def token_field(name: str, tokens: Tensor, like: Tensor) -> Any:
    """`rows_of_tokens` as a field of a kernel: pointer, two strides, `[sources, rows, length]`, type."""
    if tokens.get_device() != like.get_device():
        raise ValueError(f"{name} must be on {like.device} like the result, got {tokens.device}")
    if tokens.dim() == 3:
        sources, rows, length = tokens.shape
        source_stride, row_stride, _ = tokens.stride()
    elif tokens.dim() == 2:
        (sources, length), (source_stride, _) = tokens.shape, tokens.stride()
        rows, row_stride = 1, 0
    else:
        raise ValueError(f"{name} must have 2 or 3 dimensions, got shape {tuple(tokens.shape)}")
    pointer, code = tokens.data_ptr(), CODES.get(tokens.dtype, -1)
    return pointer, source_stride, row_stride, sources, rows, length, code


def run_batch(
    kernel: str,
    workspace: str,
    batch: TokenBatch,
    out: Tensor,
    *,
    max_order: int | None = None,
    **request: Any,
) -> Tensor:
    """Fill `out`, of which every element is written, where it lives.

    Args:
        kernel: name of the kernel.
        workspace: name of the function that says how many bytes it needs besides.
        batch: what it reads.
        out: what it writes.
        max_order: longest n-gram, for the kernels that count them.
        request: the other fields of the kernel's parameter struct in csrc/payoffs.

    Raises:
        ValueError: A field that the struct refuses, such as a tensor that is too short.
    """
    if out.numel() == 0:
        return out
    hypotheses, references = rows_of_tokens(batch.hypotheses), rows_of_tokens(batch.references)
    sizes: dict[str, Any] = {
        "hypotheses": token_field("hypotheses", hypotheses, out),
        "references": token_field("references", references, out),
    }
    if max_order is not None:
        sizes["max_order"] = max_order
    launch(
        kernel,
        out,
        **sizes,
        hypothesis_lengths=batch.hypothesis_lengths,
        reference_lengths=batch.reference_lengths,
        eos_id=batch.eos_id,
        unmatched_id=batch.unmatched_id,
        out=out,
        workspace=new_workspace(workspace, out, sizes),
        **request,
    )
    return out


def new_workspace(function: str, like: Tensor, sizes: dict[str, Any]) -> Tensor:
    """The bytes that a kernel needs for a batch of these sizes."""
    if like.is_cuda:
        size = getattr(native.cuda(), function)(**sizes)
    else:
        size = getattr(native.cpu, function)(threads=torch.get_num_threads(), **sizes)
    return torch.empty(size, dtype=torch.uint8, device=like.device)


def new_scores(hypotheses: Tensor, output: int, float64: bool) -> Tensor:
    """The result of a score: as `hypotheses`, for whole sentences without their last dimension."""
    shape = hypotheses.shape[:-1] if output == SENTENCE else hypotheses.shape
    return hypotheses.new_empty(*shape, dtype=torch.float64 if float64 else torch.float32)


def pad_references(groups: Sequence[Sequence[list[int]]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """The references of B sources as tokens `[B, R, L]` and lengths `[B, R]`, 0 where there is none."""
    most = max(map(len, groups))
    longest = max(1, max(len(tokens) for group in groups for tokens in group))
    blank = [pad_id] * longest
    tokens = [
        [tokens + blank[len(tokens) :] for tokens in group] + [blank] * (most - len(group))
        for group in groups
    ]
    lengths = [[len(tokens) for tokens in group] + [0] * (most - len(group)) for group in groups]
    return torch.tensor(tokens, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)


def mean_score(scores: Tensor) -> float:
    """The mean in float64 of a split's scores, rounded once: the same for any order of the sentences."""
    values = scores.flatten().tolist()
    return math.fsum(values) / len(values) if values else 0.0

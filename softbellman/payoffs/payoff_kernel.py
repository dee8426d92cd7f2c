"""How the arguments of CIDEr-D and ROUGE-L are checked and reach the native core.

Notation: B sources, K samples per source, R references per source, T and L padded lengths, n the longest
n-gram."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from softbellman.core.operator import register
from softbellman.payoffs.bleu_kernel import BATCH_SCHEMA, launch, new_scores
from softbellman.payoffs.frequencies import DocumentFrequencies


def frequency_arguments(frequencies: DocumentFrequencies, hypotheses: Tensor) -> tuple[Any, ...]:
    """The tables of the document frequencies, checked to be where the hypotheses are."""
    if not isinstance(frequencies, DocumentFrequencies):
        raise TypeError(f"frequencies must be DocumentFrequencies, got {type(frequencies).__name__}")
    if isinstance(hypotheses, Tensor) and frequencies.device != hypotheses.device:
        raise ValueError(
            f"frequencies must be on the device of hypotheses, {hypotheses.device}, got {frequencies.device}; "
            "use frequencies.to(device)"
        )
    return (*frequencies.table(), frequencies.log_documents)


def _cider(*arguments: Any) -> Tensor:
    batch, (tokens, longer, unseen, sigma, output, scaled, float64) = arguments[:7], arguments[7:]
    table = (
        tokens.data_ptr(),
        longer.data_ptr(),
        len(tokens).bit_length() - 1,
        len(longer).bit_length() - 1,
    )
    out = new_scores(arguments[0], output, float64)
    return launch(
        "cider_workspace", "cider_scores", (table, unseen, sigma, output, scaled, float64), out, *batch
    )


def _rouge(*arguments: Any) -> Tensor:
    batch, (beta, output, scaled, float64) = arguments[:7], arguments[7:]
    out = new_scores(arguments[0], output, float64)
    return launch("rouge_workspace", "rouge_scores", (beta, output, scaled, float64), out, *batch)


cider_scores = register(
    "cider_scores",
    f"({BATCH_SCHEMA}, Tensor table_tokens, Tensor table_longer, float unseen, float sigma, "
    "int output, bool scaled, bool float64) -> Tensor",
    kernel=_cider,
    fake=lambda *arguments: new_scores(arguments[0], arguments[11], arguments[13]),
)
rouge_scores = register(
    "rouge_scores",
    f"({BATCH_SCHEMA}, float beta, int output, bool scaled, bool float64) -> Tensor",
    kernel=_rouge,
    fake=lambda *arguments: new_scores(arguments[0], arguments[8], arguments[10]),
)


def mean(scores: Tensor) -> float:
    """The mean in float64 of a split's scores, rounded once: the same for any order of the sentences."""
    values = scores.flatten().tolist()
    return math.fsum(values) / len(values) if values else 0.0

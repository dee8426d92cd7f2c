"""CIDEr-D, ROUGE-L, chrF and TER of texts, as the field reports them for a whole split.

Every word, known to a model or not, becomes an id of its own; then the operators score the ids. CIDEr-D takes the document
frequencies of the references it is given, one document for the references of each hypothesis, as the COCO caption tools do.
CIDEr-D and ROUGE-L are means over the hypotheses, from exact sums; all are given times 100.

Notation: N hypotheses, R references of each, T and L padded lengths.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from torch import Tensor

from softbellman.payoffs.batches import pad_references
from softbellman.payoffs.cider import sentence_cider
from softbellman.payoffs.frequencies import DocumentFrequencies
from softbellman.payoffs.rouge import sentence_rouge_l

logger = logging.getLogger(__name__)

_CHUNK = 1024  # hypotheses padded together

Texts = Sequence[str]
TextGroups = Sequence[Sequence[str]]
"""The (one or more) references of each hypothesis; an empty one is no reference."""


class _Chunk(NamedTuple):
    """Ids of some hypotheses `[N, 1, T]` and their references `[N, R, L]`, with lengths `[N, 1]` and `[N, R]`."""

    hypotheses: Tensor
    references: Tensor
    hypothesis_lengths: Tensor
    reference_lengths: Tensor


def cider_scores(
    hypotheses: Texts, references: TextGroups, *, tokenize: str = "none", lowercase: bool = False
) -> list[float]:
    """CIDEr-D of each hypothesis, 0 to 1000; n-grams of up to 4 words, sigma 6.

    An n-gram weighs more the fewer hypotheses have it in their references. Where all have the same ones, as with one
    hypothesis alone, every score is 0, and a warning is logged.

    Args:
        hypotheses: N texts.
        references: those of each.
        tokenize: name of sacrebleu's tokeniser; words are what it parts by spaces.
        lowercase: compare without case.

    Raises:
        ValueError: a hypothesis without a reference that holds a word.

    Example:
        >>> texts = ["a dog runs in snow", "a cat sleeps on a mat"]
        >>> [round(score, 2) for score in cider_scores(texts, [[text] for text in texts])]
        [1000.0, 1000.0]
    """
    chunks = list(_number(hypotheses, references, tokenize, lowercase))
    if not chunks:
        return []
    frequencies = DocumentFrequencies.from_batches(
        (chunk.references, chunk.reference_lengths) for chunk in chunks
    )
    if frequencies.weigh_nothing:
        logger.warning(
            "CIDEr-D says nothing here and is 0: it weighs n-grams by how few lines have them in their references, "
            "but each is in those of all %d",
            frequencies.documents,
        )
    return [
        100.0 * score
        for chunk in chunks
        for score in sentence_cider(**chunk._asdict(), frequencies=frequencies, dtype=torch.float64)
        .view(-1)
        .tolist()
    ]


def rouge_l_scores(
    hypotheses: Texts, references: TextGroups, *, tokenize: str = "none", lowercase: bool = False
) -> list[float]:
    """ROUGE-L of each hypothesis, 0 to 100; beta 1.2. Arguments and errors are those of `cider_scores`.

    Example:
        >>> rouge_l_scores(["two dogs run"], [["two dogs run fast", "two dogs run"]])
        [100.0]
    """
    return [
        100.0 * score
        for chunk in _number(hypotheses, references, tokenize, lowercase)
        for score in sentence_rouge_l(**chunk._asdict(), dtype=torch.float64).view(-1).tolist()
    ]


def mean(scores: Sequence[float]) -> float:
    """Their mean, from an exact sum; 0 of none."""
    return math.fsum(scores) / max(len(scores), 1)


def corpus_chrf(hypotheses: Texts, references: TextGroups) -> float:
    """sacrebleu's chrF2 of a split, 0 to 100."""
    return float(CHRF().corpus_score(list(hypotheses), streams(references)).score)  # type: ignore[arg-type]


def corpus_ter(hypotheses: Texts, references: TextGroups) -> float:
    """sacrebleu's TER of a split, in percent; smaller is better, and above 100 where there are more edits than words."""
    return float(TER().corpus_score(list(hypotheses), streams(references)).score)  # type: ignore[arg-type]


def present(references: Sequence[str]) -> list[str]:
    """Those of a group that hold more than spaces: an empty line is no reference."""
    return [reference for reference in references if reference.strip()]


def streams(references: TextGroups) -> list[list[str | None]]:
    """References sentence by sentence as sacrebleu's streams; one with fewer leaves the later streams empty.

    Raises:
        ValueError: a hypothesis without any.
    """
    groups = [present(group) for group in references]
    for position, group in enumerate(groups, start=1):
        if not group:
            raise ValueError(f"hypothesis {position} has no reference that holds a word")
    most = max(map(len, groups))
    return [[group[i] if i < len(group) else None for group in groups] for i in range(most)]


def _number(hypotheses: Texts, references: TextGroups, tokenize: str, lowercase: bool) -> Iterator[_Chunk]:
    """The texts as ids, in chunks."""
    part = BLEU(tokenize=tokenize).tokenizer
    ids: dict[str, int] = {}

    def number(text: str) -> list[int]:
        words = part((text.lower() if lowercase else text).rstrip()).split()
        return [ids.setdefault(word, len(ids)) for word in words]

    groups: list[list[list[int]]] = []
    for position, group in enumerate(references, start=1):
        groups.append([words for words in map(number, group) if words])
        if not groups[-1]:
            raise ValueError(f"hypothesis {position} has no reference that holds a word")
    rows = [[number(text)] for text in hypotheses]
    if len(rows) != len(groups):
        raise ValueError(f"there are {len(rows)} hypotheses, but references of {len(groups)}")
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        tokens, lengths = pad_references(rows[chunk])
        targets, target_lengths = pad_references(groups[chunk])
        yield _Chunk(tokens, targets, lengths, target_lengths)

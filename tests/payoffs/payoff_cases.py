"""Captions for the tests of CIDEr-D and ROUGE-L: random ones, and a few with what the COCO caption tools say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import softbellman as ops
from payoffs.bleu_cases import BleuBatch, random_batch
from softbellman import reference

# (hypothesis, references), sentence by sentence scored by pycocoevalcap 1.2 with the references' own frequencies
CAPTIONS = (
    (
        "a dog runs on the grass",
        ("a dog is running on the grass", "the brown dog runs across a field", "a dog plays"),
    ),
    ("two men", ("two men sit on a bench", "men on a bench in the park")),
    ("a a a a cat", ("a cat", "the cat sleeps on a a sofa", "cat")),
    (
        "the the the girl rides a red bike on the road near the old house today",
        ("a girl rides a bike", "the girl rides the red bike down the road"),
    ),
    ("nothing of it", ("a man climbs", "somebody climbs up the rock")),
    ("park", ("park", "people in the park")),
)

CIDER_SCORES = (
    2.216145835568745,
    1.5385177262322363,
    2.0684468951895982,
    0.9335456127290781,
    0.0,
    1.7610147308705082,
)
ROUGE_SCORES = (
    0.7587064676616916,
    0.45864661654135336,
    0.6192893401015228,
    0.5972027972027971,
    0.0,
    1.0,
)


def rows(sentences: list[list[str]]) -> tuple[Tensor, Tensor]:
    """Token ids [B, R, L] and lengths [B, R], a reference that is missing having length 0."""
    words = sorted({word for row in CAPTIONS for text in (row[0], *row[1]) for word in text.split()})
    ids = [[[words.index(word) + 4 for word in text.split()] for text in row] for row in sentences]
    count, width = max(map(len, ids)), max(len(tokens) for row in ids for tokens in row)
    padded = [[tokens + [0] * (width - len(tokens)) for tokens in row] for row in ids]
    padded = [row + [[0] * width] * (count - len(row)) for row in padded]
    lengths = [[len(tokens) for tokens in row] + [0] * (count - len(row)) for row in ids]
    return torch.tensor(padded), torch.tensor(lengths)


def captions() -> dict[str, Tensor]:
    hypotheses, lengths = rows([[row[0]] for row in CAPTIONS])
    references, reference_lengths = rows([list(row[1]) for row in CAPTIONS])
    return BleuBatch(hypotheses, references, lengths, reference_lengths).arguments()


def corpus_of(batch: BleuBatch) -> tuple[Tensor, Tensor]:
    """References of the batch and of a few more documents, with tokens that the batch may lack or have alone."""
    more = random_batch(99, sources=4, references=batch.references.shape[1], alphabet=7, reference_length=9)
    width = max(batch.references.shape[-1], 9)
    parts = [batch.references, more.references]
    padded = [torch.nn.functional.pad(part, (0, width - part.shape[-1])) for part in parts]
    return torch.cat(padded), torch.cat([batch.reference_lengths, more.reference_lengths])


def both_frequencies(batch: BleuBatch, **options: Any) -> tuple[Any, Any]:
    """The corpus counted natively and in Python."""
    references, lengths = corpus_of(batch)
    return (
        ops.DocumentFrequencies.from_references(references, reference_lengths=lengths, **options),
        reference.DocumentFrequencies.from_references(references, reference_lengths=lengths, **options),
    )

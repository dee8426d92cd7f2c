"""Small Transformers and what they read, for the tests of their forms, definitions and images."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.models import TransformerCaptioner, TransformerSeq2Seq

SIZES = {"width": 8, "layers": 2, "heads": 2, "feedforward": 12}
EXACT = {"rtol": 0, "atol": 1e-12}


def seq2seq(**options: float) -> TransformerSeq2Seq:
    torch.manual_seed(3)
    model = TransformerSeq2Seq(11, 13, **SIZES, **options)
    return model.double().eval()


def captioner(**options: float) -> TransformerCaptioner:
    torch.manual_seed(3)
    return TransformerCaptioner(5, 13, **SIZES, **options).double().eval()


def sources() -> Tensor:
    """Three sources of lengths 5, 2 and 4, not sorted."""
    return torch.tensor([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 10, 3, 0]])


def grids() -> Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def prefixes(rows: int = 3, steps: int = 4) -> Tensor:
    tokens = torch.randint(3, 13, (rows, steps), generator=torch.Generator().manual_seed(5))
    tokens[:, 0] = 2
    return tokens


CASES = {
    "text": (seq2seq, sources),
    "tied": (lambda: seq2seq(tied_output=True), sources),
    "grid": (captioner, grids),
    "vector": (captioner, lambda: grids()[:, 0]),
}

"""Sparse and nested tensors are refused by name, wherever an operator takes a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import softbellman as sb

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse_coo": lambda dense: dense.to_sparse(),
    "nested": lambda dense: torch.nested.nested_tensor([dense, dense[:1]]),
    "jagged": lambda dense: torch.nested.nested_tensor([dense, dense[:1]], layout=torch.jagged),
    "csr": lambda dense: dense.to_sparse_csr(),
}
ROWS, IDS, LENGTHS = (
    torch.randn(3, 5),
    torch.ones(3, 1, dtype=torch.int64),
    torch.ones(1, 1, dtype=torch.int64),
)
CALLS: dict[str, Callable[[Tensor], object]] = {
    "q": lambda bad: sb.soft_value(bad, tau=1.0),
    "logits": lambda bad: sb.policy_value(bad, ROWS, tau=1.0),
    "hidden": lambda bad: sb.Head(bad, torch.randn(7, 5)),
    "weight": lambda bad: sb.Head(ROWS, bad),
    "bias": lambda bad: sb.Head(ROWS, torch.randn(7, 5), bad),
    "mask": lambda bad: sb.soft_value(ROWS, tau=1.0, mask=bad),
    "actions": lambda bad: sb.critic_loss(ROWS, bad, torch.zeros(3)),
    "forbidden": lambda bad: sb.sample_tokens(ROWS, seed=1, forbidden=bad),
    "hypotheses": lambda bad: sb.prefix_bleu(bad, LENGTHS),
    "tokens": lambda bad: sb.sample_edits(bad, samples=1, proposal="hamming", vocabulary=9, seed=3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("argument", CALLS)
def test_a_tensor_that_is_not_dense_is_refused_by_name(argument: str, layout: str) -> None:
    dense = IDS if argument in ("actions", "hypotheses", "tokens") else ROWS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these layouts are prototypes, says torch
        bad = LAYOUTS[layout](dense)
    with pytest.raises(
        TypeError, match=f"^{argument} must be a dense tensor, got (a nested one|torch.sparse_)"
    ):
        CALLS[argument](bad)

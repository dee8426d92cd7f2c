"""Label smoothing: the formula of torch's cross entropy, without a second matrix of the size of the logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from softbellman import Head
from softbellman.losses import cross_entropy as cross_entropy_operators
from softbellman.objectives import maximum_likelihood

ROWS, WORDS = 7, 11


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(ROWS, WORDS, generator=generator, dtype=torch.float64)
    labels = torch.randint(WORDS, (ROWS,), generator=generator)
    return logits.to(dtype).requires_grad_(), labels


def head(bias: bool = True, **options: float) -> tuple[Head, list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(WORDS, 5, generator=generator, dtype=torch.float64)
    parts = [hidden, weight] + (
        [torch.randn(WORDS, generator=generator, dtype=torch.float64)] if bias else []
    )
    for part in parts:
        part.requires_grad_()
    labels = torch.randint(WORDS, (ROWS,), generator=generator)
    return Head(*parts, chunk_rows=3, **options), parts, labels


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.9])
def test_logits(smoothing: float) -> None:
    logits, labels = rows()
    found = maximum_likelihood(logits, labels, sequences=2, smoothing=smoothing)
    (ours,) = torch.autograd.grad(found.loss, logits)
    wanted = cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum") / 2
    (theirs,) = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(found.loss, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    nll = cross_entropy(logits, labels, reduction="sum").detach()
    torch.testing.assert_close(found.diagnostics["nll"], nll, rtol=1e-12, atol=0)
    assert not found.diagnostics["nll"].requires_grad


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"scale": 0.5}, {"softcap": 3.0}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_heads(bias: bool, options: dict[str, float], masked: bool) -> None:
    made, parts, labels = head(bias, **options)
    mask = torch.arange(ROWS) % 3 != 1 if masked else None
    found = maximum_likelihood(made, labels, mask, sequences=3, smoothing=0.1)
    ours = torch.autograd.grad(found.loss, parts)
    real = slice(None) if mask is None else mask
    wanted = cross_entropy(made.logits()[real], labels[real], label_smoothing=0.1, reduction="sum") / 3
    theirs = torch.autograd.grad(wanted, parts)
    torch.testing.assert_close(found.loss, wanted, rtol=1e-12, atol=0)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    nll = cross_entropy(made.logits()[real], labels[real], reduction="sum").detach()
    torch.testing.assert_close(found.diagnostics["nll"], nll, rtol=1e-11, atol=0)


def test_masked_rows_may_hold_anything() -> None:
    made, _, labels = head()
    mask = torch.ones(ROWS, dtype=torch.bool)
    mask[2] = False
    wanted = maximum_likelihood(made, labels, mask, sequences=1, smoothing=0.1)
    spoilt = made.hidden.detach().clone()
    spoilt[2] = torch.nan
    found = maximum_likelihood(
        Head(spoilt, made.weight.detach(), made.bias.detach(), chunk_rows=3),
        labels,
        mask,
        sequences=1,
        smoothing=0.1,
    )
    torch.testing.assert_close(found.loss.detach(), wanted.loss.detach(), rtol=0, atol=0)
    torch.testing.assert_close(found.diagnostics["nll"], wanted.diagnostics["nll"], rtol=0, atol=0)


def test_no_smoothing_is_the_plain_loss_bit_for_bit() -> None:
    logits, labels = rows(torch.float32)
    plain = maximum_likelihood(logits, labels, sequences=2)
    none = maximum_likelihood(logits, labels, sequences=2, smoothing=0.0)
    assert torch.equal(plain.loss, none.loss)


def test_the_even_part_is_one_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fused loss reads beside the logits takes the memory of one row, whatever their number."""
    seen: list[Tensor] = []
    made = cross_entropy_operators._even_rows

    def watching(logits: Tensor | Head) -> Tensor:
        seen.append(made(logits))
        return seen[-1]

    monkeypatch.setattr(cross_entropy_operators, "_even_rows", watching)
    logits, labels = rows()
    maximum_likelihood(logits, labels, sequences=2, smoothing=0.1).loss.backward()
    maximum_likelihood(head()[0], labels, sequences=2, smoothing=0.1).loss.backward()
    for even in seen:
        assert even.shape == (ROWS, WORDS)
        assert even.untyped_storage().nbytes() == WORDS * even.element_size()
    assert len(seen) == 2

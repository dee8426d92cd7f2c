"""Gradients by columns, which weights of 16 bits get, in float64: they must be those of the plain expressions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import softbellman as sb
from losses.head_cases import HEAD, POLICY, HeadCase, compare, every_case, make, random_upstream
from softbellman.core import chunked_form, row_operator
from softbellman.core.chunks import RowsTensors
from softbellman.core.columns import choose_columns, ids_in


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> list[slice]:
    """Every weight's gradient goes by columns here; the blocks that were walked through."""
    monkeypatch.setattr(RowsTensors, "is_wide", property(lambda source: source.weight is not None))
    monkeypatch.setattr(row_operator, "_is_narrow", lambda head: False)
    walked: list[slice] = []
    parts = chunked_form.ColumnPass.parts

    def recorded(self: chunked_form.ColumnPass) -> Iterator[slice]:
        for part in parts(self):
            walked.append(part)
            yield part

    monkeypatch.setattr(chunked_form.ColumnPass, "parts", recorded)
    return walked


@every_case
@pytest.mark.parametrize("masked", (False, True), ids=("all real", "masked"))
@pytest.mark.parametrize("options", ({}, {"scale": -2.0, "softcap": 3.0}), ids=str)
def test_gradients_are_those_of_the_reference(
    case: HeadCase, masked: bool, options: dict[str, float], passes: list[slice]
) -> None:
    arguments = {**make(case, (2, 7)), **options, "chunk_rows": 4}
    if masked:
        arguments["mask"] = torch.arange(7).expand(2, 7) < torch.tensor([[5], [2]])
    compare(case, arguments, random_upstream(case, arguments))
    formed = case.name != "critic_loss" or options  # a critic without a cap forms no logits
    assert bool(passes) == bool(formed)
    if case.reduces:
        sent = {name: torch.tensor(-1.7, dtype=torch.float64) for name in case.outputs}
        compare(case, {**arguments, "reduction": "mean"}, sent)


def test_stored_rows_beside_a_head(passes: list[slice]) -> None:
    arguments = make(POLICY, (2, 7))
    head = sb.Head(*(arguments[name] for name in HEAD), chunk_rows=4)  # type: ignore[arg-type]
    leaves = [tensor.requires_grad_() for tensor in (head.hidden, head.weight)]
    q = torch.randn(2, 7, 33, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7).expand(2, 7) < torch.tensor([[5], [2]])
    gradients = []
    for logits in (head, head.logits()):
        value = sb.policy_value(logits, q, tau=0.3, mask=mask).value
        gradients.append(torch.autograd.grad(value.square().sum(), [q, *leaves]))
    assert len(passes) > 1
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("vocabulary", (1, 16, 20, 32, 33))
def test_padding_gets_no_gradient(vocabulary: int, passes: list[slice]) -> None:
    """Blocks of tokens alone, of both, and of padding alone; targets in other blocks."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((9, 3), (33, 3), (33,))]
    targets = torch.randint(vocabulary, (9,), generator=generator)
    leaves = [part.requires_grad_() for part in parts]
    loss = sb.token_cross_entropy(
        sb.Head(*leaves, vocabulary=vocabulary, chunk_rows=2), targets, reduction="sum"
    )
    found = torch.autograd.grad(loss, leaves)
    hidden, weight, bias = leaves
    plain = torch.nn.functional.cross_entropy(
        (hidden @ weight.T + bias)[:, :vocabulary], targets, reduction="sum"
    )
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, torch.autograd.grad(plain, leaves))
    assert len(passes) == 11


def test_how_many_columns() -> None:
    assert choose_columns(64, 1280, 150_000, 256) == 6976  # 64 rows of logits less 512, in 16s
    assert choose_columns(64, 1280, 150_000, 4096) == 3744  # half of them
    assert choose_columns(128, 128, 150_000, 8) == choose_columns(128, 100, 150_000, 8) == 150_000
    assert choose_columns(1, 1280, 150, 8) == 1 and choose_columns(64, 0, 7, 8) == 7
    ids = torch.tensor([[0, 3, 4], [5, 6, 2]])
    assert ids_in(ids, slice(3, 6)).tolist() == [[3, 0, 1], [2, 3, 3]]  # 3: the column behind the block's

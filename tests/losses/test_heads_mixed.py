"""Heads with a scale or a cap, heads beside stored rows, heads of two dtypes, priors as heads."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import softbellman as ops
import softbellman as sb
from losses.harness import Results, tensors
from losses.head_cases import (
    CASES,
    HEAD,
    MIXTURE,
    POLICY,
    HeadCase,
    assert_same,
    compare,
    every_case,
    every_reducing_case,
    make,
    random_upstream,
    run,
)

INFINITY = float("inf")


@every_case
@pytest.mark.parametrize("masked", (False, True), ids=("all real", "masked"))
@pytest.mark.parametrize(
    "options", ({"scale": 0.5}, {"softcap": 1.5}, {"scale": -2.0, "softcap": 3.0}), ids=str
)
def test_scale_and_softcap(case: HeadCase, masked: bool, options: dict[str, float]) -> None:
    arguments = {**make(case, (2, 7)), **options, "chunk_rows": 4}
    if masked:
        arguments["mask"] = torch.arange(7).expand(2, 7) < torch.tensor([[5], [2]])
    compare(case, arguments, random_upstream(case, arguments))
    if case.reduces:
        sent = {name: torch.tensor(-1.7, dtype=torch.float64) for name in case.outputs}
        compare(case, {**arguments, "reduction": "sum"}, sent)


def test_a_cap_leaves_a_forbidden_token_forbidden() -> None:
    head = sb.Head(torch.ones(3, 2), torch.ones(4, 2), torch.tensor([0.0, -INFINITY, 0.0, 0.0]), softcap=2.0)
    hidden = head.hidden.requires_grad_()
    entropy = sb.policy_value(head, head.detach(), tau=0.1).entropy
    torch.testing.assert_close(entropy, torch.full((3,), 3.0).log())
    (gradient,) = torch.autograd.grad(entropy.sum(), hidden)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("case", (MIXTURE, POLICY, CASES["actor exact"]), ids=("mixture", "policy", "actor"))
def test_heads_of_two_dtypes_and_stored_rows_beside_a_head(case: HeadCase) -> None:
    arguments = {**make(case, (2, 7), dtype=torch.float32), "chunk_rows": 4}
    del arguments["mask"]
    heads = {"logits": [arguments.pop(n) for n in HEAD], "q": [arguments.pop(f"q_{n}") for n in HEAD]}
    del arguments["chunk_rows"]
    narrow = sb.Head(*(part.bfloat16() for part in heads["q"]), chunk_rows=4)
    wide = sb.Head(*heads["logits"], chunk_rows=4)

    def call(logits: object, q: object) -> Results:
        result = getattr(ops, case.name)(logits=logits, q=q, **arguments)
        return {"loss": result} if isinstance(result, Tensor) else result._asdict()

    expected = call(wide.logits(), narrow.logits().float())
    for logits, q in (
        (wide, narrow),
        (wide.logits(), narrow),
        (wide, narrow.logits()),
        (wide, narrow.logits().float()),
    ):
        for name, value in call(logits, q).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


def test_gradients_of_stored_rows_beside_a_head() -> None:
    arguments = make(POLICY, (2, 7))
    head = sb.Head(*(arguments[name] for name in HEAD), chunk_rows=4)  # type: ignore[arg-type]
    q = torch.randn(2, 7, 33, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7).expand(2, 7) < torch.tensor([[5], [2]])
    gradients = []
    for logits in (head, head.logits()):
        value = sb.policy_value(logits, q, tau=0.3, mask=mask).value
        gradients.append(torch.autograd.grad(value.square().sum(), q)[0])
    torch.testing.assert_close(*gradients)


@every_reducing_case
def test_inplace_backward_scales_what_was_saved(case: HeadCase) -> None:
    """The same numbers, and no second copy of the gradients; a second walk is refused."""
    arguments = {**make(case, (3, 5)), "reduction": "mean", "chunk_rows": 4, "softcap": 9.0}
    plain = run(case, partial(case.call, ops), arguments)
    assert_same(run(case, partial(case.call, ops), {**arguments, "inplace_backward": True}), plain)
    leaf = tensors(arguments)["weight"].requires_grad_()
    loss = case.call(ops, {**arguments, "inplace_backward": True})["loss"]
    torch.autograd.grad(loss, leaf, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, leaf)
    assert not torch.autograd.grad(case.call(ops, arguments)["loss"], leaf)[0].isnan().any()


def test_priors_as_heads() -> None:
    arguments = make(POLICY, (2, 7))
    head, prior = (
        sb.Head(*(arguments[f"{prefix}{name}"] for name in HEAD), chunk_rows=4)  # type: ignore[arg-type]
        for prefix in ("", "q_")
    )
    q = torch.randn(2, 7, 33, dtype=torch.float64)
    for call in (
        lambda prior: sb.soft_value(q, tau=0.3, prior=prior),
        lambda prior: sb.policy_value(head, q, tau=0.3, prior=prior).value,
        lambda prior: sb.actor_loss(head, q, tau=0.3, prior=prior, reduction="sum").loss,
    ):
        torch.testing.assert_close(call(prior), call(prior.logits()))

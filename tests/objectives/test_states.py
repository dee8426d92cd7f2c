"""Rows that several positions share give the loss, diagnostics and gradient of the rows written out."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from softbellman import Head
from softbellman.objectives import oracle_distillation, soft_q_objective, weighted_likelihood
from softbellman.objectives.states import entries

D, M, V = 5, 12, 7
GENERATOR = torch.Generator().manual_seed(3)
ROWS, Q = torch.randn(2, D, V, generator=GENERATOR, dtype=torch.float64)
STATES = torch.tensor([0, 1, 2, 0, 1, 3, 0, 1, 2, 0, 4, 4])
TOKENS = torch.tensor([1, 2, 3, 1, 5, 6, 1, 2, 3, 4, 0, 0])
WEIGHTS = torch.rand(M, generator=GENERATOR, dtype=torch.float64)
REWARDS = torch.randn(M, generator=GENERATOR, dtype=torch.float64)
ENDS = torch.tensor([0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1], dtype=torch.bool)
SHARES = torch.tensor([1.0, 0.0] * (M // 2), dtype=torch.float64)

soft_q = partial(soft_q_objective, actions=TOKENS, rewards=REWARDS, sequences=3, tau=0.7, terminal=ENDS)
likelihood = partial(weighted_likelihood, labels=TOKENS, weights=WEIGHTS, sources=2)


def distillation(rows, q=Q, **options):
    q = q if "states" in options else q[STATES]
    return oracle_distillation(rows, q, WEIGHTS, sources=2, tau=0.7, **options)


CASES = {
    "soft Q": soft_q,
    "soft Q, some uncounted": partial(soft_q, counted=~ENDS),
    "likelihood": likelihood,
    "distillation": distillation,
    "distillation of a part": partial(distillation, labels=TOKENS, oracle_share=0.2),
    "distillation of labels alone": partial(distillation, labels=TOKENS, oracle_share=0.0),
    "distillation of some": partial(distillation, labels=TOKENS, oracle_share=SHARES),
}


@pytest.mark.parametrize("objective", CASES.values(), ids=CASES.keys())
def test_shared_rows_are_the_rows_written_out(objective) -> None:
    shared, written = ROWS.clone().requires_grad_(), ROWS.clone().requires_grad_()
    found, wanted = objective(shared, states=STATES), objective(written[STATES])
    torch.testing.assert_close(found.loss, wanted.loss)
    assert found.diagnostics.keys() == wanted.diagnostics.keys()
    for name, value in found.diagnostics.items():
        torch.testing.assert_close(value, wanted.diagnostics[name])
    (3.0 * found.loss).backward()
    (3.0 * wanted.loss).backward()
    torch.testing.assert_close(shared.grad, written.grad)


HEAD = [torch.randn(shape, generator=GENERATOR, dtype=torch.float64) for shape in ((D, 3), (V, 3), (V,))]
Q_HEAD = [torch.randn(shape, generator=GENERATOR, dtype=torch.float64) for shape in ((D, 4), (V, 4), (V,))]


HEAD_CASES = {
    "soft Q": soft_q,
    "likelihood": likelihood,
    "distillation": partial(distillation, q=Head(*Q_HEAD)),
    "distillation of a part": partial(distillation, q=Head(*Q_HEAD), labels=TOKENS, oracle_share=0.2),
    "distillation of some": partial(distillation, q=Head(*Q_HEAD), labels=TOKENS, oracle_share=SHARES),
}


@pytest.mark.parametrize("name", HEAD_CASES)
@pytest.mark.parametrize("options", [{"chunk_rows": 2}, {}, {"scale": 0.5, "softcap": 2.0}], ids=str)
def test_heads_share_rows_too(name: str, options: dict) -> None:
    objective = HEAD_CASES[name]
    ours, theirs = ([part.clone().requires_grad_() for part in HEAD] for _ in range(2))
    found = objective(Head(*ours, **options), states=STATES)
    wanted = objective(Head(*theirs, **options).logits(), states=STATES)
    torch.testing.assert_close(found.loss, wanted.loss)
    assert found.diagnostics.keys() == wanted.diagnostics.keys()
    for key, value in found.diagnostics.items():
        torch.testing.assert_close(value, wanted.diagnostics[key])
    (3.0 * found.loss).backward()
    (3.0 * wanted.loss).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_state_of_weight_zero_changes_nothing() -> None:
    weights = WEIGHTS.masked_fill(STATES == 1, 0.0)
    rows = ROWS.clone().requires_grad_()
    options = {"labels": TOKENS, "oracle_share": 0.2, "states": STATES}
    loss = oracle_distillation(rows, Q, weights, sources=1, tau=0.7, **options).loss
    loss.backward()
    assert loss.isfinite() and rows.grad.isfinite().all()
    assert (rows.grad[1] == 0).all() and (rows.grad[0] != 0).any()


def test_entries_of_bfloat16_rows_are_float32() -> None:
    rows = ROWS.bfloat16().requires_grad_()
    same, found = entries(rows, STATES, TOKENS)
    assert found.dtype == torch.float32 and same.dtype == torch.bfloat16
    assert torch.equal(found, rows[STATES, TOKENS].float())
    (same.float().square().sum() + found.sum()).backward()
    wanted = 2 * rows.detach().float()
    wanted.index_put_((STATES, TOKENS), torch.ones(M), accumulate=True)
    torch.testing.assert_close(rows.grad.float(), wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_q(ROWS[None], states=STATES), "q must be packed"),
        (
            lambda: oracle_distillation(Head(*HEAD), Head(*Q_HEAD), sources=1, tau=1.0, states=STATES),
            "weights must be given",
        ),
        (lambda: oracle_distillation(ROWS, Q, sources=1, tau=1.0, states=STATES), "weights must be given"),
        (lambda: distillation(ROWS, states=STATES, oracle_share=0.5), "labels must be given"),
    ],
)
def test_what_is_missing_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()

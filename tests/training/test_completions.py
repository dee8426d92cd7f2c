"""Completion values as targets: what each stage's loss is, written out, and which payoffs have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_updates import CPU, one_update, settings_of
from torch import Tensor

from softbellman.data import BOS, EOS, PAD, UNK
from softbellman.objectives import known_distillation, oracle_distillation
from softbellman.reference import bleu_completion_values
from softbellman.training.assembly import Assembly
from softbellman.training.completions import complete
from softbellman.training.edited import Edited
from softbellman.training.task import Task, load_task

DRY = {"actor.dropout": "0", "oracle.dropout": "0", "critic.dropout": "0", "payoff.references": "all"}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def by_definition(parts: Assembly, batch: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """The reference's values, `[N, T, V]`."""
    sources = len(batch)
    values = bleu_completion_values(
        tokens.view(sources, -1, tokens.shape[1]),
        batch.references,
        vocabulary=len(parts.task.target_codec),
        eos_id=EOS,
        hypothesis_lengths=mask.sum(1).view(sources, -1),
        reference_lengths=batch.reference_lengths,
        special_ids=(PAD, BOS),
        unmatched_id=UNK,
        dtype=torch.float64,
    )
    return values.flatten(0, 1)


def cross_entropy(logits: Tensor, q: Tensor, mask: Tensor, tau: float) -> Tensor:
    """Of every sequence, `[N]`."""
    target = torch.softmax(q / tau, -1)
    return -(target * torch.log_softmax(logits.double(), -1)).sum(-1).masked_fill(~mask, 0.0).sum(1)


def small_batch(parts: Assembly, stage: Any, name: str) -> Any:
    batch = next(parts.train_batches(stage.schedule, name).epoch(0))
    assert len(batch) >= 2
    return batch


def test_the_values_are_those_of_the_batch_and_the_payoff(task: Task) -> None:
    parts = Assembly(
        settings_of({**DRY, "algorithm": "vaml", "augmented.schedule.batch_size": "2"}), task, CPU
    )
    stage = parts.build("augmented")
    batch = small_batch(parts, stage, "augmented")
    edited: Edited = stage.source.draw(batch, 0)
    found = complete(
        parts.payoff, edited.labels[:, :6], edited.mask[:, :6], batch, vocabulary=len(task.target_codec)
    )
    expected = by_definition(parts, batch, edited.labels[:, :6], edited.mask[:, :6])
    torch.testing.assert_close(found.spread().flatten(0, 1).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logits", ["whole", "chunked"])
def test_vaml_distils_them(task: Task, logits: str) -> None:
    overrides = {
        **DRY, "algorithm": "vaml", "oracle.kind": "completion", "oracle.tau": "0.2", "logits": logits,
        "augmented.schedule.batch_size": "3", "augmented.drop_below": "0",
    }  # fmt: skip
    _, sums, _ = one_update(task, "augmented", overrides)
    parts = Assembly(settings_of(overrides), task, CPU)
    fresh = parts.build("augmented")
    batch = small_batch(parts, fresh, "augmented")
    edited = fresh.source.draw(batch, 0)
    found = complete(parts.payoff, edited.labels, edited.mask, batch, vocabulary=len(task.target_codec))
    said = parts.actor.eval()(batch.source, edited.prefix)
    losses = cross_entropy(said, found.spread().flatten(0, 1).double(), edited.mask, 0.2)
    expected = (losses * edited.weights.flatten()).sum()
    torch.testing.assert_close(sums["cross_entropy"].double(), expected.detach(), rtol=1e-4, atol=1e-4)


def test_the_warm_up_learns_them(task: Task) -> None:
    overrides = {
        **DRY, "warmup.target": "completion", "warmup.scale": "0.3", "warmup.schedule.batch_size": "3",
    }  # fmt: skip
    _, sums, _ = one_update(task, "warmup", overrides)
    parts = Assembly(settings_of(overrides), task, CPU)
    fresh = parts.build("warmup")
    batch = small_batch(parts, fresh, "warmup")
    edited = fresh._edits.draw(batch, 0)
    found = complete(parts.payoff, edited.labels, edited.mask, batch, vocabulary=len(task.target_codec))
    said = parts.reader.eval()(batch.labels, edited.prefix)
    losses = cross_entropy(said, found.spread().flatten(0, 1).double(), edited.mask, 0.3)
    torch.testing.assert_close(sums["cross_entropy"].double(), losses.sum().detach(), rtol=1e-4, atol=1e-4)


def test_known_values_with_shares_and_states_are_those_of_an_oracle() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, q = (torch.randn(4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    states, labels = torch.tensor([0, 1, 1, 2, 3, 3]), torch.tensor([2, 0, 5, 6, 1, 1])
    weights, share = torch.rand(6, generator=generator, dtype=torch.float64), 0.3
    answers = []
    for distil in (
        lambda rows: oracle_distillation(
            rows, q, weights, sources=2, tau=0.5, labels=labels, oracle_share=share, states=states
        ),
        lambda rows: known_distillation(
            rows, lambda part: q[part], weights, sources=2, tau=0.5, labels=labels, oracle_share=share, states=states
        ),
    ):  # fmt: skip
        leaf = logits.clone().requires_grad_()
        found = distil(leaf)
        (gradient,) = torch.autograd.grad(found.loss, leaf)
        answers.append((found.loss.detach(), gradient, *found.diagnostics.values()))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="weights must be given where states are"):
        known_distillation(logits, lambda part: q[part], sources=2, tau=0.5, states=states)


@pytest.mark.parametrize(
    "overrides",
    [
        {"algorithm": "vaml", "oracle.kind": "completion"},
        {"algorithm": "ocd", "completion.payoff": "bleu"},
        {"algorithm": "erac", "warmup.target": "completion"},
    ],
    ids=str,
)
def test_other_payoffs_have_no_such_values(task: Task, overrides: dict[str, str]) -> None:
    settings = settings_of({**overrides, "payoff.metric": "rouge_l"})
    with pytest.raises(
        ValueError, match=r"values of completions are of payoff\.metric bleu alone, got rouge_l"
    ):
        Assembly(settings, task, CPU)
    Assembly(settings_of({"payoff.metric": "rouge_l"}), task, CPU)

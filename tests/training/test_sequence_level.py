"""The sequence-level stage: its losses written out, its baselines, what each algorithm is defined by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_updates import CPU, one_update, settings_of
from torch import Tensor, nn

from softbellman.data import EOS, Batch
from softbellman.decoding import beam_search
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.assembly import Assembly
from softbellman.training.settings import SequenceStageSettings
from softbellman.training.stages.sequence_level import SequenceStage, state_baseline
from softbellman.training.task import Task, load_task

DRY = {"actor.dropout": "0", "sequence.samples": "3", "sequence.schedule.batch_size": "4"}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def parts_of(task: Task, overrides: dict[str, str]) -> tuple[Assembly, SequenceStage, Batch]:
    parts = Assembly(settings_of({**DRY, **overrides}), task, CPU)
    stage = parts.build("sequence")
    assert isinstance(stage, SequenceStage)
    return parts, stage, next(parts.train_batches(stage.schedule, "sequence").epoch(0))


def log_likelihood(
    parts: Assembly, batch: Batch, prefix: Tensor, tokens: Tensor, mask: Tensor, forbid: bool
) -> Tensor:
    """log p of each sequence, `[N]`, with the forbidden tokens left out of the softmax or not."""
    logits = parts.actor.eval()(batch.source, prefix).double()
    if forbid:
        logits = logits.masked_fill(parts.forbidden, -torch.inf)
    picked = torch.log_softmax(logits, -1).gather(-1, tokens[..., None]).squeeze(-1)
    return picked.masked_fill(~mask, 0.0).sum(1)


def gradient_of(loss: Tensor, actor: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*actor.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def assert_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], clip: float = 5.0) -> None:
    """Equal after clipping, within float32."""
    norm = torch.stack([one.norm() for one in wanted.values()]).norm()
    assert norm > 1e-3  # below it differences are float32's own
    scale = min(1.0, clip / float(norm))
    for name, expected in wanted.items():
        torch.testing.assert_close(
            found[f"actor.{name}"],
            expected * scale,
            rtol=0,
            atol=2e-5 * float((expected * scale).abs().max()) + 1e-7,
        )


@pytest.mark.parametrize(
    ("algorithm", "baseline"),
    [("reinforce", "none"), ("reinforce", "batch"), ("rloo", "others"), ("scst", "greedy")],
)
def test_the_policy_gradient_written_out(task: Task, algorithm: str, baseline: str) -> None:
    overrides = {"algorithm": algorithm, "sequence.baseline": baseline}
    _, sums, gradients = one_update(task, "sequence", {**DRY, **overrides})
    parts, stage, batch = parts_of(task, overrides)
    drawn = stage.drawing.draw(batch, 0)
    payoffs = drawn.rewards.sum(1).double()  # [N]
    table = payoffs.view(4, 3)
    if algorithm == "rloo":
        subtracted = torch.stack(
            [table[:, [1, 2]].mean(1), table[:, [0, 2]].mean(1), table[:, [0, 1]].mean(1)], 1
        ).flatten()
    elif algorithm == "scst":
        limits = (batch.mask.sum(1) + 10).clamp(max=20)
        said = beam_search(parts.actor, batch.source, beam=1, max_length=limits, forbidden=parts.forbidden)
        rewards = parts.payoff.rewards(
            said.tokens[:, None], batch.references, hypothesis_lengths=said.lengths[:, None],
            reference_lengths=batch.reference_lengths,
        )  # fmt: skip
        subtracted = rewards.sum((1, 2)).double().repeat_interleave(3)
    elif baseline == "batch":
        subtracted = (payoffs.sum() - payoffs) / 11
    else:
        subtracted = torch.zeros_like(payoffs)
    likelihood = log_likelihood(parts, batch, drawn.prefix, drawn.actions, drawn.mask, forbid=True)
    loss = -(likelihood * (payoffs - subtracted)).sum() / 12
    assert_gradients(gradients, gradient_of(loss, parts.actor))
    lengths = drawn.mask.sum(1)
    assert float(sums["baseline"]) == pytest.approx(float((subtracted * lengths).sum()), rel=1e-4, abs=1e-4)
    assert float(sums["payoff"]) == pytest.approx(float(payoffs.sum()), rel=1e-5)
    # what was drawn can be drawn: the end token closes, nothing behind it is real
    ended = (drawn.actions == EOS) & drawn.mask
    assert (ended.sum(1) <= 1).all() and (
        ended.float().argmax(1)[ended.any(1)] == lengths[ended.any(1)] - 1
    ).all()


@pytest.mark.parametrize("with_reference", [True, False])
def test_minimum_risk_written_out(task: Task, with_reference: bool) -> None:
    overrides = {
        "algorithm": "mrt", "sequence.objective": "minimum_risk", "sequence.alpha": "0.05",
        "sequence.with_reference": str(with_reference).lower(),
        "sequence.samples": "8", "payoff.references": "all",
    }  # fmt: skip
    _, sums, gradients = one_update(task, "sequence", {**DRY, **overrides})
    parts, stage, batch = parts_of(task, overrides)
    drawn = stage.drawing.draw(batch, 0)
    drawn_likelihood = log_likelihood(
        parts, batch, drawn.prefix, drawn.actions, drawn.mask, forbid=False
    ).view(4, 8)
    payoffs = drawn.rewards.sum(1).view(4, 8).double()
    reference = log_likelihood(parts, batch, batch.prefix, batch.labels, batch.mask, forbid=False)
    losses = []
    for source in range(4):
        seen: dict[tuple[int, ...], tuple[Tensor, float]] = {}
        for sample in range(8):
            row = 8 * source + sample
            words = tuple(drawn.actions[row, : int(drawn.mask[row].sum())].tolist())
            seen.setdefault(words, (drawn_likelihood[source, sample], float(payoffs[source, sample])))
        if with_reference:
            words = tuple(batch.labels[source, : int(batch.mask[source].sum())].tolist())
            own = parts.payoff.rewards(
                batch.labels[source, None, None], batch.references[source, None],
                hypothesis_lengths=batch.mask[source].sum()[None, None],
                reference_lengths=batch.reference_lengths[source, None],
            )  # fmt: skip
            seen.setdefault(words, (reference[source], float(own.sum())))
        scores = torch.stack([score for score, _ in seen.values()])
        values = torch.tensor([value for _, value in seen.values()], dtype=torch.float64)
        losses.append(-((0.05 * scores).softmax(0) * values).sum())
    assert_gradients(gradients, gradient_of(torch.stack(losses).mean(), parts.actor))
    assert 1.0 <= float(sums["effective_samples"]) / 4 <= 9.0


def test_the_mean_of_many_draws_is_the_gradient_of_the_expected_payoff(task: Task) -> None:
    """z-test: two tokens a sequence at most, so that all V^2 sequences are enumerated; rloo against the exact gradient."""
    overrides = {
        "algorithm": "rloo", "sequence.baseline": "others", "sequence.samples": "6", "sequence.schedule.batch_size": "1",
        "sequence.extra_length": "0", "data.max_length": "2", "sequence.optimizer.clip": ".inf",
    }  # fmt: skip
    parts, stage, batch = parts_of(task, overrides)
    actor, bias = parts.actor.eval(), dict(parts.actor.named_parameters())["output.bias"]
    allowed = (~parts.forbidden).nonzero().squeeze(1)
    first, second = torch.cartesian_prod(allowed, allowed).unbind(1)
    keep = (first != EOS) | (second == EOS)  # behind the end nothing is drawn: one row for (EOS, -)
    tokens = torch.stack([first, second], 1)[keep]  # [N, 2]
    lengths = torch.where(tokens[:, 0] == EOS, 1, 2)
    mask = torch.arange(2) < lengths[:, None]
    prefix = torch.cat([batch.prefix[:1, :1].expand(len(tokens), 1), tokens[:, :1]], 1)
    rewards = parts.payoff.rewards(
        tokens[None],
        batch.references,
        hypothesis_lengths=lengths[None],
        reference_lengths=batch.reference_lengths,
    )
    payoffs = rewards[0].sum(-1).double()
    chance = log_likelihood(parts, batch, prefix, tokens, mask, forbid=True).exp()
    assert float(chance.detach().sum()) == pytest.approx(1.0, abs=1e-5)
    (expected,) = torch.autograd.grad(-(chance * payoffs).sum(), bias)
    weights = actor.state_dict()
    kept = {name: value.clone() for name, value in weights.items()}
    draws = []
    for step in range(1500):
        actor.load_state_dict(kept)
        stage.update(batch, step)
        assert bias.grad is not None
        draws.append(bias.grad.clone())
    directions = torch.randn(len(bias), 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.stack(draws).double() @ directions
    z = (found.mean(0) - expected.double() @ directions) / (found.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < 4.0 and found.std(0).min() > 0


def test_a_learnt_baseline_learns_what_the_actor_earns(task: Task) -> None:
    overrides = {
        "algorithm": "reinforce", "sequence.baseline": "learnt", "sequence.optimizer.learning_rate": "1e-12",
        "sequence.baseline_optimizer.learning_rate": "0.05",
    }  # fmt: skip
    _, stage, batch = parts_of(task, overrides)
    errors = []
    for _ in range(60):
        sums = stage.update(batch, 0)  # the same draw again and again
        errors.append(float(sums["baseline_squared"] / sums["tokens"]))
    assert errors[-1] < 0.7 * errors[0]
    assert set(stage.modules) == set(stage.optimizers) == {"actor", "baseline"}


def test_the_baseline_of_a_draw_is_of_before_the_draw(task: Task) -> None:
    """It must not have seen the payoff that it is subtracted from: new, it is 0."""
    overrides = {"algorithm": "reinforce", "sequence.baseline": "learnt"}
    _, stage, batch = parts_of(task, overrides)
    assert float(stage.update(batch, 0)["baseline"]) == 0.0
    assert float(stage.update(batch, 1)["baseline"]) != 0.0


def test_algorithms_are_defined_by_objective_and_baseline() -> None:
    settings = settings_of({"sequence.baseline": "none", "sequence.objective": "minimum_risk"})
    found = {
        name: ALGORITHMS[name].definition(settings).sequence for name in ("reinforce", "scst", "rloo", "mrt")
    }
    assert {name: (one.objective, one.baseline) for name, one in found.items()} == {
        "reinforce": ("policy_gradient", "none"),
        "scst": ("policy_gradient", "greedy"),
        "rloo": ("policy_gradient", "others"),
        "mrt": ("minimum_risk", "none"),
    }
    assert not ALGORITHMS["mrt"].uses("joint.samples") and ALGORITHMS["mrt"].uses("sequence.alpha")


def test_rloo_needs_two_samples() -> None:
    with pytest.raises(ValueError, match=r"sequence\.samples is 1; say at least 2"):
        SequenceStageSettings(baseline="others", samples=1)


def test_a_learnt_baseline_needs_features() -> None:
    class Whole(nn.Module):
        def forward(self, source: Tensor, prefix: Tensor) -> Any:
            return None

    with pytest.raises(ValueError, match="Whole has no features and projection; say sequence"):
        state_baseline(Whole())


def test_one_sequence_has_no_others(task: Task) -> None:
    """A batch of one source and one sample: the mean over no others counts as 0."""
    overrides = {"algorithm": "reinforce", "sequence.samples": "1", "sequence.schedule.batch_size": "1"}
    _, stage, batch = parts_of(task, overrides)
    sums = stage.update(batch, 0)
    assert float(sums["baseline"]) == 0.0
    assert replace(SequenceStageSettings(), samples=1).baseline == "batch"


# MIXER ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 3])
def test_mixer_written_out(task: Task, step: int) -> None:
    """Reference tokens by maximum likelihood, the drawn end by the policy gradient; the end grows every 2 updates."""
    overrides = {
        "algorithm": "mixer", "sequence.baseline": "none", "sequence.mixer_chunk": "2", "sequence.mixer_updates": "2",
    }  # fmt: skip
    parts, stage, batch = parts_of(task, overrides)
    drawn_end = 2 if step == 0 else 4
    forced = batch.labels.clone()
    lengths = batch.mask.sum(1)
    for row in range(4):
        forced[row, max(int(lengths[row]) - drawn_end, 0) :] = -1
    drawn = stage.drawing.draw(batch, step, forced=forced)
    given = torch.zeros_like(drawn.mask)
    for row in range(12):
        wanted = forced[row // 3][forced[row // 3] >= 0]
        assert drawn.actions[row, : len(wanted)].tolist() == wanted.tolist()
        given[row, : len(wanted)] = True
    logits = parts.actor.eval()(batch.source, drawn.prefix).double().masked_fill(parts.forbidden, -torch.inf)
    picked = torch.log_softmax(logits, -1).gather(-1, drawn.actions[..., None]).squeeze(-1)
    payoffs = drawn.rewards.sum(1).double()[:, None].expand_as(picked)
    weights = torch.where(given, 1.0, payoffs)
    counted = drawn.mask & torch.isfinite(picked.detach())
    wanted = gradient_of(-(picked.masked_fill(~counted, 0.0) * weights).sum() / 12, parts.actor)
    torch.manual_seed(3)
    stage.update(batch, step)
    found = {
        f"actor.{name}": one.grad for name, one in parts.actor.named_parameters() if one.grad is not None
    }
    assert_gradients(found, wanted)


def test_mixer_ends_as_reinforce(task: Task) -> None:
    overrides = {"algorithm": "mixer", "sequence.mixer_chunk": "2", "sequence.mixer_updates": "1"}
    _, stage, batch = parts_of(task, overrides)
    forced = stage._kept_reference(batch, 30)
    assert forced is not None and (forced < 0).all()
    _, plain, _ = parts_of(task, {"algorithm": "reinforce"})
    assert plain._kept_reference(batch, 0) is None
    assert ALGORITHMS["mixer"].settle(settings_of({})).sequence.mixer_chunk == 2
    assert (
        ALGORITHMS["reinforce"].settle(settings_of({"sequence.mixer_chunk": "3"})).sequence.mixer_chunk == 0
    )

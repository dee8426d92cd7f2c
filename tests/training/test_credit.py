"""Switches of the critic and the joint stage: longer returns, a prior, averaged weights, a critic that stays a reader."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_updates import CPU, settings_of
from torch import Tensor
from training.harness import Killed, die_before, metrics_of, same_run, weights_of

from softbellman import reference
from softbellman.training import load_run, run
from softbellman.training.assembly import Assembly
from softbellman.training.rollout import mode
from softbellman.training.settings import CheckpointSettings, Settings
from softbellman.training.stages import CriticStage, JointStage
from softbellman.training.task import Task, load_task

BOTH = {"credit.trace": "0.6", "credit.prior": "start"}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


def joint_stage(task: Task, overrides: dict[str, str]) -> tuple[Assembly, JointStage]:
    """A joint stage whose actor has moved from its start."""
    parts = Assembly(settings_of(overrides), task, CPU)
    stage = parts.build("joint")
    assert isinstance(stage, JointStage)
    with torch.no_grad():
        for parameter in stage.evaluation.actor.parameters():
            parameter.mul_(0.8)
    return parts, stage


@pytest.mark.parametrize("future_entropy", ("true", "false"))
@pytest.mark.parametrize("logits", ("whole", "chunked"))
@pytest.mark.parametrize(
    "overrides", (BOTH, {"credit.trace": "1"}, {"credit.prior": "start"}, {"credit.trace": "0.3"}), ids=str
)
def test_the_critic_is_regressed_to_the_reference_on_padded_rows(
    task: Task, overrides: dict[str, str], logits: str, future_entropy: str
) -> None:
    """The stage packs the real tokens; here the networks are called whole."""
    asked = {**overrides, "logits": logits, "credit.future_entropy": future_entropy}
    parts, stage = joint_stage(task, asked)
    evaluation, credit = stage.evaluation, parts.settings.credit
    tau = credit.tau if credit.future_entropy else 0.0
    batch = next(parts.train_batches(stage.schedule, "joint").epoch(0))
    with torch.no_grad(), mode(evaluation.actor, training=False), mode(evaluation.critic, training=False):
        rollout = evaluation.draw(batch, 0)
        policy, prior = evaluation.policy(batch, rollout), evaluation.prior_policy(batch, rollout)
        found = evaluation.critic_loss(batch, rollout, policy, prior=prior)[0].diagnostics

        def said(network: torch.nn.Module, source: Tensor) -> Tensor:
            return network(source, rollout.prefix).double()

        forbidden, mask = parts.forbidden, rollout.mask
        policy = said(evaluation.actor, batch.source).masked_fill(forbidden, -torch.inf)
        bonus = tau * reference.policy_value(policy, torch.zeros_like(policy), tau=0.0).entropy
        if credit.prior == "start":
            assert evaluation.prior is not None
            prior = said(evaluation.prior, batch.source).masked_fill(forbidden, -torch.inf)
            divergence = reference.divergence(policy, prior, kind="reverse_kl", mask=mask)
            bonus = -tau * divergence
            wanted = float(divergence.sum())
            assert float(found["prior_divergence"]) == pytest.approx(wanted, rel=1e-4)
            assert wanted > 0.01 * mask.sum()
        else:
            prior = None
            assert "prior_divergence" not in found
        averaged = said(evaluation.target, batch.labels)
        value = reference.policy_value(policy, averaged, tau=tau, prior=prior, mask=mask).value
        targets = reference.td_targets(
            rollout.rewards.double(), value, mask, trace=credit.trace, bonuses=bonus
        )
        q = said(evaluation.critic, batch.labels).gather(2, rollout.actions.unsqueeze(2)).squeeze(2)
    wanted = float((q - targets)[mask].square().sum())
    assert float(found["td_squared"]) == pytest.approx(wanted, rel=1e-4)


def test_the_prior_is_the_actor_at_the_start_and_does_not_move(task: Task) -> None:
    parts = Assembly(settings_of({**BOTH, "joint.actor_optimizer.learning_rate": "0.01"}), task, CPU)
    start = {name: value.clone() for name, value in parts.actor.state_dict().items()}
    stage = parts.build("joint")
    batches = parts.train_batches(stage.schedule, "joint").epoch(0)
    divergences = []
    for step, batch in enumerate(itertools.islice(batches, 3)):
        sums = stage.update(batch, step)
        divergences.append(float(sums["prior_divergence"] / sums["tokens"]))
    assert abs(divergences[0]) < 1e-6 < divergences[1] < divergences[2]
    assert not stage.modules["prior"].training
    for name, value in stage.modules["prior"].state_dict().items():
        assert torch.equal(value, start[name])
    assert any(not torch.equal(value, start[name]) for name, value in parts.actor.state_dict().items())


def test_in_the_critic_stage_the_actor_is_its_own_prior(task: Task) -> None:
    """The divergence is 0, so the values are those at temperature 0, and no second network is asked."""
    stages = [
        Assembly(settings_of(overrides), task, CPU).build("critic")
        for overrides in ({"credit.prior": "start"}, {"credit.tau": "0"})
    ]
    found = []
    for stage in stages:
        assert isinstance(stage, CriticStage) and "prior" not in stage.modules
        found.append(stage.evaluate())
    assert found[0] == pytest.approx(found[1], nan_ok=True) and "dev_prior_divergence" not in found[0]


def test_validation_tells_how_far_the_actor_went(task: Task) -> None:
    _, stage = joint_stage(task, BOTH)
    assert stage.evaluate()["dev_prior_divergence"] > 0.01


@pytest.mark.parametrize("name", ("critic", "joint"))
def test_the_critic_descends_the_weighted_likelihood_of_the_reference_as_well(task: Task, name: str) -> None:
    """Its gradient is that of the TD error and of `-weight log softmax(Q / tau)` of the references, mean over sources."""
    weight, tau = 0.5, 0.2
    asked = {"critic.dropout": "0", "credit.reference_tau": str(tau)}
    asked |= {"critic.optimizer.clip": ".inf", "joint.critic_optimizer.clip": ".inf"}
    gradients: list[list[Tensor]] = []
    for own in (0.0, weight):
        parts = Assembly(settings_of({**asked, "credit.reference_weight": str(own)}), task, CPU)
        stage = parts.build(name)
        assert isinstance(stage, CriticStage | JointStage)
        batch = next(parts.train_batches(stage.schedule, name).epoch(0))
        critic = stage.evaluation.critic
        stage.optimizers["critic"].param_groups[0]["lr"] = 0.0
        sums = stage.update(batch, 0)
        gradients.append([value.grad for value in critic.parameters() if value.grad is not None])
    critic.zero_grad()
    said = critic(batch.labels, batch.prefix).double() / tau
    of_labels = said.log_softmax(-1).gather(2, batch.labels.unsqueeze(2)).squeeze(2)[batch.mask]
    (-weight * of_labels.sum() / len(batch)).backward()
    expected = [value.grad for value in critic.parameters() if value.grad is not None]
    for without, found, added in zip(*gradients, expected, strict=True):
        torch.testing.assert_close(found - without, added, atol=1e-5, rtol=1e-3)
    assert float(sums["reader_nll"]) == pytest.approx(-float(of_labels.detach().sum()), rel=1e-4)
    assert float(sums["read_tokens"]) == int(batch.mask.sum())


def test_a_critic_that_stays_a_reader_follows_the_reference(task: Task) -> None:
    """Eq. (18) alone gives the words that were never drawn any value; with the likelihood the reference's word leads."""
    likelihoods = []
    for weight in ("0", "1"):
        overrides = {"credit.reference_weight": weight, "critic.optimizer.learning_rate": "0.01"}
        parts = Assembly(settings_of(overrides), task, CPU)
        stage = parts.build("critic")
        assert isinstance(stage, CriticStage)
        for epoch in range(2):
            for step, batch in enumerate(parts.train_batches(stage.schedule, "critic").epoch(epoch)):
                stage.update(batch, step)
        with torch.no_grad():
            q = stage.evaluation.critic(batch.labels, batch.prefix)
            likelihoods.append(
                float((q / 0.1).log_softmax(-1).gather(2, batch.labels.unsqueeze(2))[batch.mask].mean())
            )
    assert likelihoods[1] > likelihoods[0] + 0.5


@pytest.mark.parametrize("logits", ("whole", "chunked"))
@pytest.mark.parametrize(
    "overrides",
    ({"credit.prior": "start"}, {"joint.follow": "target"}, {"credit.tau": "0"}, {"credit.trace": "0.5"}),
    ids=str,
)
def test_the_actor_follows_what_the_critic_misses_of_the_returns(
    task: Task, overrides: dict[str, str], logits: str
) -> None:
    """The gradients differ by that of `-weight sum_t (G_t - Q(y_<t, y_t)) log pi(y_t | y_<t)`, mean over sequences."""
    weight = 0.6
    asked = {"joint.actor_optimizer.clip": ".inf", "joint.samples": "2", "critic.dropout": "0"}
    asked |= {"logits": logits, **overrides}
    gradients: list[list[Tensor]] = []
    for own in (0.0, weight):
        parts, stage = joint_stage(task, {**asked, "joint.return_weight": str(own)})
        evaluation, actor = stage.evaluation, stage.evaluation.actor
        batch = next(parts.train_batches(stage.schedule, "joint").epoch(0))
        for optimizer in stage.optimizers.values():
            optimizer.param_groups[0]["lr"] = 0.0
        sums = stage.update(batch, 0)
        gradients.append([value.grad for value in actor.parameters() if value.grad is not None])
    actor.zero_grad()
    with mode(actor, training=False), mode(evaluation.critic, training=False):
        rollout, mask = evaluation.draw(batch, 0), None
        policy, prior = evaluation.policy(batch, rollout), evaluation.prior_policy(batch, rollout)
        backup = evaluation.backup(batch, rollout, policy, prior=prior)
        followed = evaluation.target if parts.settings.joint.follow == "target" else evaluation.critic
        source = batch.critic_source.repeat_interleave(2, 0)
        said = actor(batch.source.repeat_interleave(2, 0), rollout.prefix).double()
        with torch.no_grad():
            q = followed(source, rollout.prefix).double()
        mask, actions = rollout.mask, rollout.actions.unsqueeze(2)
        missed = (backup.returns - q.gather(2, actions).squeeze(2))[mask].detach()
        said = said.masked_fill(parts.forbidden, -torch.inf)
        (
            -weight * (missed * said.log_softmax(-1).gather(2, actions).squeeze(2)[mask]).sum() / len(mask)
        ).backward()
    expected = [value.grad for value in actor.parameters() if value.grad is not None]
    for without, found, added in zip(*gradients, expected, strict=True):
        torch.testing.assert_close(found - without, added, atol=1e-5, rtol=2e-3)
    assert float(sums["missed_return"]) == pytest.approx(float(missed.abs().sum()), rel=1e-4)


def with_everything(settings: Settings) -> Settings:
    """Longer returns, a prior and an average; four updates between validations, so that some fall between checkpoints."""
    credit = replace(settings.credit, tau=0.1, trace=0.6, prior="start")
    optimizer = replace(settings.joint.actor_optimizer, learning_rate=2e-3)
    joint = replace(settings.joint, average=0.8, actor_optimizer=optimizer)
    return replace(settings, credit=credit, joint=joint)


@pytest.fixture
def whole(tiny_settings: Settings, tmp_path: Path) -> Path:
    """The run that nothing stops."""
    return run(replace(with_everything(tiny_settings), output=str(tmp_path / "whole"))).folder


@pytest.mark.parametrize("kill_at", (0, 3, 5, 8))
def test_a_killed_run_repeats_the_whole_one_bit_for_bit(
    tiny_settings: Settings, whole: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    """Before the first update, within and behind a validation's interval: the prior and both actors are restored."""
    settings = replace(with_everything(tiny_settings), checkpoint=CheckpointSettings(updates=1, keep=1))
    die_before(monkeypatch, JointStage, kill_at)
    with pytest.raises(Killed):
        run(settings)
    newest = max(Path(settings.output).glob("checkpoints/joint-0*.json"))
    assert json.loads(newest.read_text())["step"] == kill_at
    same_run(run(settings, resume=Path(settings.output)).folder, whole)


def test_the_run_folder_holds_the_average_and_the_prior(tiny_settings: Settings, whole: Path) -> None:
    weights = weights_of(whole)
    start, last = weights["actor-best"], weights["joint-last"]
    moved = 0
    for name, value in start.items():
        key = name.removeprefix("actor.")
        assert torch.equal(last[f"prior.{key}"], value), "the prior is the actor at the start"
        moved += not torch.equal(last[f"trained_actor.{key}"], last[name])
    assert moved > 0
    model = load_run(whole, "joint-last").model
    for name, value in model.state_dict().items():
        assert torch.equal(value, last[f"actor.{name}"]), "what translates is the average"
    records = [record for record in metrics_of(whole) if record["stage"] == "joint"]
    divergences = [record["prior_divergence"] for record in records if record["kind"] == "train"]
    assert divergences and all(value > 0 for value in divergences)


def last_weights(folder: Path) -> dict[str, Tensor]:
    return load_file(max((folder / "checkpoints").glob("joint-0*.safetensors")))


def test_without_the_switches_a_checkpoint_holds_what_it_did(tiny_settings: Settings) -> None:
    folder = run(tiny_settings).folder
    assert {name.partition(".")[0] for name in last_weights(folder)} == {"actor", "critic", "target"}

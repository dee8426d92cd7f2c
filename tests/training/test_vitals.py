"""What a validation measures is what plain PyTorch computes from the definitions, and it changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training.harness import metrics_of, same_weights, weights_of
from training.small_updates import CPU, settings_of

from softbellman import reference
from softbellman.data import EOS, PAD, collate
from softbellman.training import run, vitals
from softbellman.training.assembly import Assembly
from softbellman.training.settings import Settings
from softbellman.training.stages import policy_evaluation
from softbellman.training.task import load_task
from softbellman.training.vitals import measure, quarters


def test_quarters_of_a_sentence() -> None:
    mask = torch.arange(8) < torch.tensor([8, 4, 6, 1, 0])[:, None]
    found = quarters(mask)
    assert found[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found[1, :4].tolist() == [0, 1, 2, 3]
    assert found[2, :6].tolist() == [0, 0, 1, 2, 2, 3]
    assert found[3, :1].tolist() == [0]


CASES = {
    "critic followed": {},
    "target followed, another weight": {"joint.follow": "target", "joint.mle_weight": "0.7"},
    "normalised entropy": {"credit.actor_entropy": "normalized"},
    "no entropy in the actor": {"credit.actor_entropy": "none"},
    "temperature 0": {"credit.tau": "0"},
    "no future entropy": {"credit.future_entropy": "false"},
    "chunked logits": {"logits": "chunked"},
    "input feeding": {"model.input_feeding": "true"},
}


@pytest.mark.parametrize("stage", ["critic", "joint"])
@pytest.mark.parametrize("case", CASES)
def test_measures_are_those_of_plain_pytorch(case: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(CASES[case])
    parts = Assembly(settings, load_task(settings.data), CPU)
    evaluation = policy_evaluation(parts, stage, parts.actor)
    with torch.no_grad():  # a target critic of its own
        for parameter in evaluation.target.parameters():
            parameter.mul_(0.8)
    batches = [collate(parts.dev, [(i, 0) for i in part]) for part in (range(5), range(5, 12))]
    monkeypatch.setattr(vitals, "CPU_CHUNK_BYTES", 60 * 4 * 5 * len(parts.task.target_codec))
    found = measure(evaluation, batches, settings.joint)

    tau, mode = evaluation.credit.tau, evaluation.credit.actor_entropy
    sequences = sentences = 0
    squares = dict.fromkeys(("value", "entropy", "likelihood"), 0.0)
    errors: list[list[float]] = [[], [], [], []]
    entropies, drawn, wanted, unended = [], 0, 0, 0
    for step, batch in enumerate(batches):
        rollout = evaluation.draw(batch, step)
        actor, critic, target = (
            network.eval() for network in (parts.actor, evaluation.critic, evaluation.target)
        )
        with torch.no_grad():
            logits = actor(batch.source, rollout.prefix).double()  # [N, T, V]
            q = critic(batch.labels, rollout.prefix).double()
            averaged = target(batch.labels, rollout.prefix).double()
            likely = actor(batch.source, batch.prefix).double()
        logits[..., parts.forbidden] = -torch.inf
        mask = rollout.mask
        value = reference.policy_value(logits, averaged, tau=evaluation.critic_tau, mask=mask).value
        followed = q if settings.joint.follow == "critic" else averaged
        for row in range(len(mask)):
            length = int(mask[row].sum())
            for place in range(length):
                following = value[row, place + 1] if place + 1 < length else 0.0
                error = q[row, place, rollout.actions[row, place]] - rollout.rewards[row, place] - following
                errors[4 * place // length].append(abs(float(error)))
            words = int((rollout.actions[row, :length] != EOS).sum())
            drawn, unended = drawn + words, unended + (words == length)
        leaf = logits.clone().requires_grad_()
        value_loss = reference.actor_loss(leaf, followed, tau=0.0, mask=mask).loss.sum()
        whole = reference.actor_loss(leaf, followed, tau=tau, mask=mask, entropy=mode)
        (of_value,) = torch.autograd.grad(value_loss, leaf)
        (of_whole,) = torch.autograd.grad(whole.loss.sum(), leaf)
        entropies.append(whole.entropy.detach()[mask])
        references = likely.clone().requires_grad_()
        nll = torch.nn.functional.cross_entropy(
            references.flatten(0, 1), batch.labels.flatten(), ignore_index=PAD, reduction="sum"
        )
        (of_likelihood,) = torch.autograd.grad(nll, references)
        squares["value"] += float(of_value.square().sum())
        squares["entropy"] += float((of_whole - of_value).square().sum())
        squares["likelihood"] += float((settings.joint.mle_weight * of_likelihood).square().sum())
        wanted += evaluation.samples * int(batch.reference_lengths[:, 0].sum())
        sequences, sentences = sequences + len(mask), sentences + len(batch)
    counts = {"value": sequences, "entropy": sequences, "likelihood": sentences}
    for term, square in squares.items():
        expected = square**0.5 / counts[term]
        assert found[f"gradient_{term}"] == pytest.approx(expected, rel=2e-4, abs=1e-7), term
    for part, quarter in enumerate(errors, start=1):
        assert found[f"dev_td_error_q{part}"] == pytest.approx(sum(quarter) / len(quarter), rel=1e-4), part
    assert found["dev_entropy"] == pytest.approx(float(torch.cat(entropies).mean()), rel=1e-5)
    assert found["dev_sample_length_ratio"] == pytest.approx(drawn / wanted)
    assert found["dev_unended"] == pytest.approx(unended / sequences)
    assert (found["gradient_entropy"] == 0) == (tau == 0 or mode == "none")
    assert found["gradient_value"] > 0 and found["gradient_likelihood"] > 0


def test_the_gradient_of_the_returns_is_measured_where_it_has_a_weight() -> None:
    settings = settings_of({"joint.return_weight": "0.3", "critic.dropout": "0"})
    parts = Assembly(settings, load_task(settings.data), CPU)
    evaluation = policy_evaluation(parts, "joint", parts.actor)
    batches = [collate(parts.dev, [(i, 0) for i in range(5)])]
    found = measure(evaluation, batches, settings.joint)
    assert "gradient_returns" not in measure(evaluation, batches, settings_of({}).joint)

    with torch.no_grad():
        rollout = evaluation.draw(batches[0], 0)
        policy = evaluation.policy(batches[0], rollout)
        backup = evaluation.backup(batches[0], rollout, policy)
        logits = parts.actor(batches[0].source, rollout.prefix).double()
        q = evaluation.critic(batches[0].labels, rollout.prefix).double()
    logits[..., parts.forbidden] = -torch.inf
    leaf, actions = logits.requires_grad_(), rollout.actions.unsqueeze(2)
    missed = backup.returns - q.gather(2, actions).squeeze(2)
    taken = leaf.log_softmax(-1).gather(2, actions).squeeze(2)
    (gradient,) = torch.autograd.grad((missed * taken)[rollout.mask].sum(), leaf)
    expected = 0.3 * float(gradient.norm()) / len(rollout.mask)
    assert found["gradient_returns"] == pytest.approx(expected, rel=2e-4)


def test_the_critic_stage_measures_nothing_of_the_returns() -> None:
    """Its records may be read from the cache by a run with another weight."""
    parts = Assembly(settings_of({"joint.return_weight": "0.3"}), load_task(settings_of({}).data), CPU)
    assert "gradient_returns" not in parts.build("critic").evaluate()
    assert "gradient_returns" in parts.build("joint").evaluate()


def test_measuring_changes_no_weight_and_no_other_number(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    dropped = replace(
        tiny_settings.credit, sampling_dropout=True
    )  # draws then use torch's own random numbers
    settings = replace(tiny_settings, credit=dropped)
    with_it = run(settings).folder
    monkeypatch.setattr("softbellman.training.stages.actor_critic.measure", lambda *_, **__: {})
    without = run(replace(settings, output=str(tmp_path / "without"))).folder
    same_weights(weights_of(with_it), weights_of(without))
    kept = [record for record in metrics_of(without) if record["kind"] != "health"]
    found = [record for record in metrics_of(with_it) if record["kind"] != "health"]
    for record, wanted in zip(found, kept, strict=True):
        assert {key: record[key] for key in wanted} == wanted
    assert any("dev_entropy" in record for record in found)
    assert not any("dev_entropy" in record for record in kept)

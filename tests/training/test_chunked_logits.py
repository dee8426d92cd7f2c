"""An update with chunked logits computes what one with whole logits does, and never holds an [M, V] tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_updates import CPU, assert_same_update, one_update, settings_of

from softbellman import Head, policy_value
from softbellman.objectives import actor_objective, maximum_likelihood, oracle_distillation
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.rollout import forbid, head_of, vocabulary_rows
from softbellman.training.runfolder import RunFolder
from softbellman.training.stages import PolicyEvaluation
from softbellman.training.task import Task, load_task

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = (
    "actor",
    "warmup",
    "critic",
    "joint",
    "oracle",
    "augmented",
    "completion",
    "scheduled",
    "sequence",
    "consistency",
    "future",
    "professor",
    "interpolated",
)
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "maximum likelihood": ("actor", {"algorithm": "mle"}),
    "warm-up": ("warmup", {}),
    "warm-up by completions": ("warmup", {"warmup.target": "completion"}),
    "critic": ("critic", {}),
    "joint": ("joint", {}),
    "joint, target critic": ("joint", {"joint.follow": "target"}),
    "joint, no temperature": ("joint", {"algorithm": "ac", "credit.tau": "0"}),
    "joint, published": ("joint", {"preset": "published"}),
    "joint, actor waits": ("joint", {"joint.actor_delay": "5"}),
    "joint, longer returns and a prior": ("joint", {"credit.trace": "0.6", "credit.prior": "start"}),
    "critic that stays a reader": ("critic", {"credit.reference_weight": "0.3"}),
    "joint, critic that stays a reader": ("joint", {"credit.reference_weight": "0.3"}),
    "joint, nothing forbidden": ("joint", {"credit.forbid_special": "false"}),
    "RAML": ("augmented", {"algorithm": "raml"}),
    "soft Q": ("oracle", {"algorithm": "vaml"}),
    "soft Q, published": ("oracle", {"algorithm": "vaml", "preset": "published"}),
    "VAML": ("augmented", {"algorithm": "vaml"}),
    "VAML, published": ("augmented", {"algorithm": "vaml", "preset": "published"}),
    "policy gradient": (
        "sequence",
        {"algorithm": "rloo", "sequence.baseline": "others", "sequence.mle_weight": "0.1"},
    ),
    "policy gradient, learnt baseline": (
        "sequence",
        {"algorithm": "reinforce", "sequence.baseline": "learnt"},
    ),
    "scheduled sampling": ("scheduled", {"algorithm": "scheduled"}),
    "interpolation": (
        "interpolated",
        {"algorithm": "interpolation", "interpolated.increments": "0.3", "interpolated.own": "0.2"},
    ),
    "drawn ends": (
        "sequence",
        {"algorithm": "mixer", "sequence.baseline": "learnt", "sequence.mixer_chunk": "3"},
    ),
    "minimum risk": (
        "sequence",
        {"algorithm": "mrt", "sequence.objective": "minimum_risk", "sequence.alpha": "0.5"},
    ),
    "future success": ("future", {"algorithm": "future_success"}),
    "professor forcing": ("professor", {"algorithm": "professor_forcing"}),
    "path consistency": ("consistency", {"algorithm": "pcl", "consistency.mle_weight": "0.1"}),
    "path consistency, unified": (
        "consistency",
        {"algorithm": "pcl", "consistency.value": "unified", "credit.prior": "start"},
    ),
    "completion": ("completion", {"algorithm": "ocd", "completion.mle_weight": "0.1"}),
    "completion under BLEU": ("completion", {"algorithm": "ocd", "completion.payoff": "bleu"}),
    "VAML of completions": ("augmented", {"algorithm": "vaml", "oracle.kind": "completion"}),
    "VAML of completions, published": (
        "augmented",
        {"algorithm": "vaml", "oracle.kind": "completion", "preset": "published"},
    ),
}


def with_logits(logits: str, overrides: dict[str, str]) -> dict[str, str]:
    return {**overrides, "logits": logits}


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_whole_logits(task: Task, case: str) -> None:
    name, overrides = CASES[case]
    whole, chunked = (one_update(task, name, with_logits(form, overrides)) for form in ("whole", "chunked"))
    assert_same_update(chunked, whole)


@pytest.mark.parametrize("case", ["warm-up", "critic", "soft Q"])
def test_validation_is_that_of_whole_logits(task: Task, case: str) -> None:
    name, overrides = CASES[case]
    metrics = []
    for logits in ("whole", "chunked"):
        stage = Assembly(settings_of(with_logits(logits, overrides)), task, CPU).build(name)
        metrics.append(stage.evaluate())
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_no_tensor_of_tokens_times_vocabulary(task: Task, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks._memory import largest_bytes
    from benchmarks.training_memory import widen

    name, overrides = CASES[case]
    wide = widen(task, 2500)
    large = {f"{section}.schedule.batch_size": "150" for section in SECTIONS}
    largest = {}
    for logits in ("whole", "chunked"):
        parts = Assembly(settings_of(with_logits(logits, {**overrides, **large})), wide, CPU)
        stage = parts.build(name)
        batch = next(parts.train_batches(stage.schedule, name).epoch(0))
        tokens = int(batch.mask.sum())
        largest[logits] = largest_bytes(lambda batch=batch, stage=stage: stage.update(batch, 0))
    assert tokens > 1000  # a chunk has 256
    assert largest["whole"] >= 4 * tokens * 2500
    assert largest["chunked"] <= 0.3 * largest["whole"]


class Opaque(torch.nn.Module):
    """A module that only maps (source, prefix) to logits."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, source, prefix):
        return self.inner(source, prefix)


def test_a_network_without_a_linear_head_keeps_whole_logits(task: Task) -> None:
    """Also beside one that has it: the two meet whole."""
    parts = Assembly(settings_of({"logits": "chunked"}), task, CPU)
    batch = next(parts.train_batches(parts.settings.joint.schedule, "joint").epoch(0))
    stage = parts.build("joint")
    assert stage.evaluation.draw(batch, 0).logits is None
    opaque = PolicyEvaluation(
        *(Opaque(parts.actor), Opaque(parts.reader), Opaque(stage.evaluation.target)),
        payoff=parts.payoff, credit=parts.settings.credit, samples=1, extra_length=4, longest=20, key=5,
        forbidden=parts.forbidden, logits="chunked",
    )  # fmt: skip
    rollout = opaque.draw(batch, 0)
    assert rollout.logits is not None and isinstance(opaque.policy(batch, rollout), torch.Tensor)

    arguments = batch.source, batch.prefix, batch.mask.flatten().nonzero().squeeze(1)
    parts.actor.eval(), parts.reader.eval()
    forbidden = parts.forbidden.nonzero().squeeze(1)
    linear = forbid(vocabulary_rows(parts.actor, *arguments, logits="chunked"), forbidden)
    whole = forbid(vocabulary_rows(Opaque(parts.actor), *arguments, logits="chunked"), forbidden)
    assert isinstance(linear, Head) and isinstance(whole, torch.Tensor)
    torch.testing.assert_close(linear.logits(), whole)
    q = torch.randn_like(whole)
    weights = torch.rand(len(whole))
    for objective in (
        lambda rows: actor_objective(rows, q, sequences=3, tau=0.1),
        lambda rows: oracle_distillation(rows, q, weights, sources=3, tau=0.1),
    ):
        torch.testing.assert_close(objective(linear).loss, objective(whole).loss)
    torch.testing.assert_close(policy_value(linear, q, tau=0.1).value, policy_value(whole, q, tau=0.1).value)


def test_without_a_graph_the_layer_needs_no_gradient(task: Task) -> None:
    parts = Assembly(settings_of({"logits": "chunked"}), task, CPU)
    features, labels = torch.randn(5, 12), torch.arange(5)
    with torch.no_grad():
        head = head_of(parts.actor, features)
    assert not maximum_likelihood(head, labels, sequences=1).loss.requires_grad
    assert maximum_likelihood(head_of(parts.actor, features), labels, sequences=1).loss.requires_grad


def test_the_cache_tells_the_two_apart(task: Task, tmp_path: Path) -> None:
    """They round differently; a stage kept by an earlier version is that of whole logits."""
    keys = {}
    for logits in ("whole", "chunked"):
        settings = replace(settings_of({"logits": logits}), cache=str(tmp_path / "cache"))
        parts = Assembly(settings, task, CPU)
        keys[logits] = StageCache(settings, RunFolder(tmp_path / "run"), task, parts.payoff, device=CPU).key(
            "critic"
        )
    assert keys["whole"] != keys["chunked"]

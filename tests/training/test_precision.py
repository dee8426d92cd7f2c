"""`precision: bfloat16`: autocast around updates, on the CPU here; the same code has not run on a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training.harness import Killed, same_run, weights_of

import softbellman
from softbellman import config
from softbellman.models import AttentionSeq2Seq, TransformerSeq2Seq
from softbellman.models.projection import known_logits
from softbellman.training import loop, run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.cache import deciding_facts
from softbellman.training.precision import as_recorded, autocast_to
from softbellman.training.settings import Settings
from softbellman.training.stages.base import descend

CPU = torch.device("cpu")
STAGES = ("actor", "warmup", "critic", "joint", "oracle", "augmented", "completion", "scheduled", "sequence")
TINY = {
    "data.pairs": "60", "data.dev_pairs": "6", "data.test_pairs": "6", "data.difficulty": "1",
    "data.min_frequency": "1",
    "device": "cpu", "keep_memory": "false", "threads": "1", "evaluation.beam": "1", "checkpoint.updates": "1",
    "actor.optimizer.learning_rate": "0.01", "model.init_range": "0.5",
}  # fmt: skip
TINY |= {f"model.{size}": "16" for size in ("embedding", "hidden", "attention_size")}
TINY |= {
    f"{stage}.schedule.{key}": value
    for stage in STAGES
    for key, value in (("max_updates", "2"), ("batch_size", "8"))
}
LEARNT = ("perplexity", "td_error", "payoff", "actor_gradient", "critic_gradient", "oracle_gradient", "value")


def settings_of(output: Path, precision: str, **keys: str) -> Settings:
    return config.load(
        Settings, overrides={**TINY, "precision": precision, "output": str(output), **keys}.items()
    )


def trained(folder: Path) -> list[dict[str, Any]]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "train"]


def count_updates(monkeypatch: pytest.MonkeyPatch, *, die_before: int = -1) -> list[torch.dtype | None]:
    """What autocast was at each update; the process dies before one of them."""
    seen: list[torch.dtype | None] = []
    update = loop.update_in_parts

    def counted(*arguments: Any) -> Any:
        if len(seen) == die_before:
            raise Killed
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return update(*arguments)

    monkeypatch.setattr(loop, "update_in_parts", counted)
    return seen


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_close_to_float32_and_goes_on_bit_for_bit(
    algorithm, tmp_path, monkeypatch
) -> None:
    wide = run(settings_of(tmp_path / "wide", "float32", algorithm=algorithm)).folder
    settings = settings_of(tmp_path / "narrow", "bfloat16", algorithm=algorithm)
    with monkeypatch.context() as patched:
        seen = count_updates(patched)
        narrow = run(settings).folder
    assert set(seen) == {torch.bfloat16}
    compared, differing = 0, 0
    for ours, theirs in zip(trained(narrow), trained(wide), strict=True):
        for key in LEARNT:
            if key in theirs:
                assert ours[key] == pytest.approx(theirs[key], rel=0.15, abs=0.05), key
                compared, differing = compared + 1, differing + (ours[key] != theirs[key])
    assert compared >= 2 and differing
    for weights in weights_of(narrow).values():
        for tensor in weights.values():
            assert tensor.dtype in (torch.float32, torch.float64) and bool(tensor.isfinite().all())

    killed = replace(settings, output=str(tmp_path / "killed"))
    with monkeypatch.context() as patched, pytest.raises(Killed):
        count_updates(patched, die_before=len(seen) - 1)
        run(killed)
    same_run(narrow, run(killed, resume=tmp_path / "killed").folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"logits": "chunked"},
        {"model.input_feeding": "true", "critic.attention": "dot"},
        {"joint.schedule.accumulate": "2"},
        {"model.kind": "transformer", "model.heads": "2", "model.feedforward": "16"},
    ],
    ids=str,
)
def test_other_forms_of_erac(keys, tmp_path) -> None:
    folders = []
    for precision in ("float32", "bfloat16"):
        words = {**TINY, "output": str(tmp_path / precision), "precision": precision, **keys}
        if keys.get("model.kind"):
            for key in ("model.embedding", "model.attention_size", "model.init_range"):
                words.pop(key)
        folders.append(run(config.load(Settings, overrides=words.items())).folder)
    for wide, narrow in zip(*map(trained, folders), strict=True):
        for key in LEARNT:
            if key in wide:
                assert narrow[key] == pytest.approx(wide[key], rel=0.15, abs=0.05), key


@pytest.mark.parametrize("kind", [AttentionSeq2Seq, TransformerSeq2Seq])
def test_logits_are_bfloat16_within_and_their_gradients_float32(kind) -> None:
    sizes = (
        {"embedding": 16, "hidden": 16, "attention_size": 16, "init_range": 0.5}
        if kind is AttentionSeq2Seq
        else {"width": 16, "layers": 1, "heads": 2, "feedforward": 16}
    )
    torch.manual_seed(0)
    model = kind(20, 30, **sizes).eval()
    source, prefix = torch.randint(4, 20, (2, 5)), torch.randint(4, 30, (4, 6))
    wanted = model(source, prefix)
    with autocast_to("bfloat16", CPU):
        found = model(source, prefix)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)
        with as_recorded(CPU):
            assert not torch.is_autocast_enabled("cpu")
            found.float().square().mean().backward()
    assert all(one.grad is not None and one.grad.dtype == torch.float32 for one in model.parameters())
    with autocast_to("float32", CPU):
        assert torch.equal(model(source, prefix), wanted)


def test_a_changed_weight_is_rounded_anew_within_an_update() -> None:
    layer = nn.Linear(4, 4)
    inputs = torch.randn(3, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    with autocast_to("bfloat16", CPU):
        with torch.no_grad():
            before = layer(inputs)
        norm = descend(layer(inputs).float().sum(), layer, optimizer, 100.0)
        after = layer(inputs)
    assert norm > 0 and not torch.equal(before, after)


def test_known_logits_have_the_gradient_of_a_linear_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = tuple(
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((5, 8), (20, 8), (20,))
    )
    features, weight, bias = layer
    with autocast_to("bfloat16", CPU):
        logits = nn.functional.linear(features, weight, bias)
        known = known_logits(features, weight, bias, logits.detach())
    upstream = torch.randn(5, 20, generator=generator).bfloat16()
    wanted, found = (torch.autograd.grad(value, layer, upstream) for value in (logits, known))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_validation_and_a_loaded_run_are_float32(tmp_path) -> None:
    result = run(settings_of(tmp_path / "run", "bfloat16", algorithm="mle"))
    actor = softbellman.load_run(result.folder)
    assert actor.score("test")["bleu"] == pytest.approx(result.rows[-1].test.score)


def test_it_is_part_of_what_a_stage_is_and_excludes_other_roundings(tmp_path) -> None:
    wide, narrow = (settings_of(tmp_path, precision) for precision in ("float32", "bfloat16"))
    assert deciding_facts(wide, "actor") != deciding_facts(narrow, "actor")
    with pytest.raises(
        config.ConfigError, match=r"model\.bfloat16_products must be none with precision: bfloat16"
    ):
        settings_of(tmp_path, "bfloat16", **{"model.bfloat16_products": "all"})

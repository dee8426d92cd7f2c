"""Optimisers, learning rates by updates, patience, averaged weights, and the rules of their settings."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from training.harness import Killed, die_before, metrics_of, same_run, weights_of

from softbellman import config
from softbellman.training import run
from softbellman.training.cache import deciding_facts
from softbellman.training.rates import rate_factor
from softbellman.training.resumption import ResumeError
from softbellman.training.settings import OptimizerSettings, ScheduleSettings, Settings
from softbellman.training.stages import ActorStage
from softbellman.training.stages.averaged import AveragedStage
from softbellman.training.stages.base import build_optimizer


def with_actor(
    settings: Settings, optimizer: dict | None = None, schedule: dict | None = None, **own
) -> Settings:
    actor = replace(
        settings.actor,
        optimizer=replace(settings.actor.optimizer, **(optimizer or {})),
        schedule=replace(settings.actor.schedule, **{"max_decays": 6, **(schedule or {})}),
        **own,
    )
    return replace(settings, algorithm="mle", actor=actor)


class TestAdamW:
    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))

    def test_matrices_decay_and_vectors_do_not(self):
        module = self.build()
        settings = OptimizerSettings(name="adamw", learning_rate=0.1, weight_decay=0.5)
        optimizer = build_optimizer(module, settings)
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        for parameter in module.parameters():  # Adam itself does not move on gradients of 0
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for name, parameter in module.named_parameters():
            shrinks = name in ("0.weight", "2.weight")
            torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if shrinks else 1.0))

    def test_without_decay_it_is_adam(self):
        found = []
        for name in ("adam", "adamw"):
            module = self.build()
            settings = OptimizerSettings(name=name, learning_rate=0.1, beta1=0.8, beta2=0.95)
            optimizer = build_optimizer(module, settings)
            assert all(group["betas"] == (0.8, 0.95) for group in optimizer.param_groups)
            for _ in range(3):
                optimizer.zero_grad()
                module(torch.tensor([1, 3])).square().sum().backward()
                optimizer.step()
            found.append([p.detach() for p in module.parameters()])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)

    def test_every_parameter_is_trained_once(self):
        module = self.build()
        module[2].weight = nn.Parameter(torch.zeros(3, 4))
        optimizer = build_optimizer(module, OptimizerSettings(name="adamw"))
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in module.parameters())


class TestFactors:
    def test_warm_up_is_a_straight_line_to_the_whole_rate(self):
        for kind in ("plateau", "inverse_sqrt", "constant"):
            schedule = ScheduleSettings(kind=kind, warmup_updates=4)
            found = [rate_factor(schedule, update) for update in (1, 2, 3, 4)]
            assert found == [0.25, 0.5, 0.75, 1.0]

    def test_inverse_square_root(self):
        schedule = ScheduleSettings(kind="inverse_sqrt", warmup_updates=100)
        assert rate_factor(schedule, 400) == pytest.approx(0.5)
        assert rate_factor(schedule, 10_000) == pytest.approx(0.1)
        assert rate_factor(ScheduleSettings(kind="inverse_sqrt"), 4) == 0.5

    def test_cosine(self):
        schedule = ScheduleSettings(kind="cosine", warmup_updates=10, max_updates=110, floor=0.2)
        assert rate_factor(schedule, 10) == 1.0
        assert rate_factor(schedule, 60) == pytest.approx(0.6)
        assert rate_factor(schedule, 35) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
        assert rate_factor(schedule, 110) == pytest.approx(0.2)
        assert rate_factor(schedule, 500) == pytest.approx(0.2)

    def test_a_plateau_decays_beside_the_warm_up(self):
        schedule = ScheduleSettings(decay=0.5, warmup_updates=4)
        assert rate_factor(schedule, 2, decays=1) == 0.25
        assert rate_factor(schedule, 9, decays=3) == 0.125


class TestRuns:
    def rates(self, settings: Settings) -> list[float]:
        folder = run(settings).folder
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [line["actor_learning_rate"] for line in lines if line["kind"] == "train"]

    @pytest.mark.parametrize(
        "schedule",
        [
            {"kind": "inverse_sqrt", "warmup_updates": 6},
            {"kind": "cosine", "warmup_updates": 3, "max_updates": 18, "floor": 0.1},
            {"kind": "constant", "warmup_updates": 8},
            {"kind": "constant"},
        ],
        ids=str,
    )
    def test_a_run_has_the_rate_of_the_formula(self, tiny_settings, schedule):
        settings = with_actor(tiny_settings, {"learning_rate": 0.01}, {**schedule, "interval": 5})
        found = self.rates(settings)
        updates = [5, 10, 15, 18] if "max_updates" in schedule else [5, 10, 15, 20]
        plan = settings.actor.schedule
        assert found == pytest.approx([0.01 * rate_factor(plan, update) for update in updates])

    def test_a_plateau_with_warm_up_decays_after_a_bad_validation(self, tiny_settings, monkeypatch):
        scores = iter([1.0, 0.9, 2.0, 1.0])
        judge_of(monkeypatch, lambda: next(scores))
        settings = with_actor(tiny_settings, {"learning_rate": 0.01}, {"warmup_updates": 2, "interval": 5})
        assert self.rates(settings) == pytest.approx([0.01, 0.01, 0.005, 0.005])

    def test_patience_counts_bad_validations_in_a_row(self, tiny_settings, monkeypatch):
        scores = iter([1.0, 0.9, 2.0, 1.9, 1.8, 9.0])
        judge_of(monkeypatch, lambda: next(scores))
        settings = with_actor(
            tiny_settings, schedule={"kind": "constant", "patience": 2, "interval": 2, "epochs": 9}
        )
        folder = run(settings).folder
        dev = [line["dev_bleu"] for line in metrics_of(folder) if line["kind"] == "dev"]
        assert dev == [1.0, 0.9, 2.0, 1.9, 1.8]
        newest = max((folder / "checkpoints").glob("actor-0*.json"))
        assert json.loads(newest.read_text())["ended"] == "patience"

    def test_without_a_plateau_bad_validations_change_nothing(self, tiny_settings, monkeypatch):
        scores = iter([5.0, 4.0, 3.0, 2.0])
        judge_of(monkeypatch, lambda: next(scores))
        found = self.rates(with_actor(tiny_settings, schedule={"kind": "constant", "interval": 5}))
        assert len(found) == 4
        assert len(set(found)) == 1


def judge_of(monkeypatch: pytest.MonkeyPatch, score) -> None:
    from softbellman.training.assembly import Assembly

    monkeypatch.setattr(Assembly, "judge_actor", lambda self: {"dev_bleu": score(), "dev_length_ratio": 1.0})


class TestResumption:
    def everything(self, settings: Settings) -> Settings:
        return with_actor(
            settings,
            {"name": "adamw", "weight_decay": 0.1, "beta2": 0.98},
            {
                "kind": "cosine",
                "warmup_updates": 4,
                "max_updates": 17,
                "patience": 3,
                "interval": 5,
                "accumulate": 3,
            },
            label_smoothing=0.1,
            average=0.9,
        )

    @pytest.mark.parametrize("update", [3, 12])
    def test_a_killed_run_is_repeated_bit_for_bit(self, tiny_settings, tmp_path, monkeypatch, update):
        settings = self.everything(tiny_settings)
        settings = replace(settings, checkpoint=replace(settings.checkpoint, updates=1))
        whole = run(settings).folder
        die_before(monkeypatch, ActorStage, update)
        again = replace(settings, output=str(tmp_path / "again"))
        with pytest.raises(Killed):
            run(again)
        run(again, resume=tmp_path / "again")
        same_run(whole, tmp_path / "again")

    def test_a_longer_cosine_is_another_run(self, tiny_settings):
        settings = self.everything(tiny_settings)
        folder = run(settings).folder
        longer = with_actor(settings, schedule={"max_updates": 30})
        with pytest.raises(ResumeError, match=r"actor\.schedule\.max_updates is 17, given 30"):
            run(longer, resume=folder)

    def test_more_updates_of_an_inverse_square_root_are_the_longer_run(self, tiny_settings, tmp_path):
        plan = {"kind": "inverse_sqrt", "warmup_updates": 4, "max_updates": 10, "interval": 5}
        short = with_actor(tiny_settings, schedule=plan)
        folder = run(short).folder
        longer = with_actor(short, schedule={"max_updates": 20})
        run(longer, resume=folder)
        whole = run(replace(longer, output=str(tmp_path / "whole"))).folder
        same = [
            {k: v for k, v in line.items() if k != "epoch"}
            for line in metrics_of(folder)
            if line["kind"] in ("train", "dev")
        ]
        other = [
            {k: v for k, v in line.items() if k != "epoch"}
            for line in metrics_of(whole)
            if line["kind"] in ("train", "dev")
        ]
        assert same == other

    @pytest.mark.parametrize(
        ("optimizer", "schedule", "own"),
        [
            ({"name": "adamw"}, {}, {}),
            ({"name": "adamw", "weight_decay": 0.1}, {}, {}),
            ({"beta2": 0.98}, {}, {}),
            ({}, {"kind": "constant"}, {}),
            ({}, {"warmup_updates": 3}, {}),
            ({}, {"patience": 3}, {}),
            ({}, {"accumulate": 2}, {}),
            ({}, {}, {"label_smoothing": 0.1}),
            ({}, {}, {"average": 0.9}),
        ],
        ids=str,
    )
    def test_each_is_part_of_the_cache_key_and_cannot_change(self, tiny_settings, optimizer, schedule, own):
        plain = with_actor(tiny_settings)
        changed = with_actor(tiny_settings, optimizer, schedule, **own)
        assert deciding_facts(plain, "actor") != deciding_facts(changed, "actor")
        from softbellman.training.record import RunRecord
        from softbellman.training.resumption import changed_settings

        record = RunRecord.create(Path("run"), config.flatten(plain), {})
        with pytest.raises(ResumeError, match=r"actor\."):
            changed_settings(record, changed)


def test_a_run_without_clipping_is_recorded_and_continued(tiny_settings):
    settings = with_actor(tiny_settings, {"clip": math.inf}, {"epochs": 1})
    folder = run(settings).folder
    assert json.loads((folder / "record.json").read_text())["settings"]["actor.optimizer.clip"] == ".inf"
    run(config.load(Settings, folder / "config.yaml"), resume=folder)


class TestAverage:
    def test_the_result_is_the_average_of_the_weights(self, tiny_settings, monkeypatch):
        settings = with_actor(tiny_settings, schedule={"max_updates": 4, "interval": 2}, average=0.75)
        path: list[list[torch.Tensor]] = []
        update = AveragedStage.update

        def watching(self, batch, step):
            if not path:
                path.append([p.detach().clone() for p in self.modules["trained_actor"].parameters()])
            sums = update(self, batch, step)
            path.append([p.detach().clone() for p in self.modules["trained_actor"].parameters()])
            return sums

        monkeypatch.setattr(AveragedStage, "update", watching)
        folder = run(settings).folder
        wanted = path[0]
        for weights in path[1:]:
            wanted = [0.75 * mean + 0.25 * new for mean, new in zip(wanted, weights, strict=True)]
        held = weights_of(folder)["actor-last"]
        names = [name for name, _ in _actor(settings).named_parameters()]
        for name, mean, trained in zip(names, wanted, path[-1], strict=True):
            torch.testing.assert_close(held[f"actor.{name}"], mean, rtol=1e-5, atol=1e-7)
            assert torch.equal(held[f"trained_actor.{name}"], trained)

    def test_a_stage_behind_it_starts_from_the_average(self, tiny_settings):
        settings = replace(with_actor(tiny_settings, average=0.9), algorithm="ac")
        folder = run(settings).folder
        held = weights_of(folder)
        assert {name.partition(".")[0] for name in held["actor-best"]} == {"actor", "trained_actor"}
        assert {name.partition(".")[0] for name in held["joint-best"]} == {"actor", "critic", "target"}


def _actor(settings: Settings) -> nn.Module:
    from softbellman.training.networks import build_actor

    return build_actor(settings, source_size=9, target_size=9)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"actor.optimizer.weight_decay": "0.1"},
            r"actor\.optimizer\.weight_decay is of adamw alone, got 0.1 with sgd",
        ),
        ({"actor.optimizer.beta2": "0.9"}, r"actor\.optimizer\.beta2 is of adam and adamw, got 0.9 with sgd"),
        (
            {"joint.schedule.floor": "0.1"},
            r"joint\.schedule\.floor is of kind cosine alone, got 0.1 with plateau",
        ),
        (
            {"joint.schedule.kind": "cosine"},
            r"joint\.schedule\.kind cosine needs max_updates above warmup_updates",
        ),
        (
            {"joint.schedule.kind": "constant", "joint.schedule.decay": "0.7"},
            r"joint\.schedule\.decay is of kind plateau alone, got 0.7 with constant; leave it at 0.9",
        ),
        (
            {"critic.schedule.kind": "constant", "critic.schedule.max_decays": "9"},
            r"critic\.schedule\.max_decays is of kind plateau alone, got 9 with constant; leave it at 5",
        ),
        ({"actor.schedule.kind": "linear"}, "expects one of plateau, inverse_sqrt, cosine, constant"),
        ({"actor.schedule.accumulate": "0"}, r"'actor\.schedule\.accumulate' must be at least 1"),
        ({"actor.label_smoothing": "1"}, r"'actor\.label_smoothing' must be at least 0 and below 1"),
        (
            {"joint.schedule.accumulate": "2", "credit.mask_padding": "false"},
            r"joint\.schedule\.accumulate must be 1 with credit\.mask_padding: false",
        ),
    ],
    ids=str,
)
def test_what_nothing_reads_is_refused(overrides, words):
    with pytest.raises(config.ConfigError, match=words):
        config.load(Settings, overrides=overrides.items())

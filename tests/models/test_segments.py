"""Cutting time into segments: every step of every row once, and no less work done than needed."""

from __future__ import annotations

import pytest
import torch

from softbellman.models import AttentionSeq2Seq, Captioner
from softbellman.models.segments import needed_lengths, plan_segments


def work(plan) -> int:
    return sum(rows * (stop - start) for start, stop, rows in plan.parts)


@pytest.mark.parametrize("call_cost", [0.0, 3.0, 1e9])
def test_every_step_has_a_place_of_its_own(call_cost):
    lengths = torch.tensor([3, 0, 7, 7, 1, 4])
    plan = plan_segments(lengths, call_cost=call_cost)
    rows = (torch.arange(9) < lengths[:, None]).flatten().nonzero().squeeze(1)
    places = plan.positions(rows, 9)
    assert len(places.unique()) == int(lengths.sum()) and int(places.max()) < work(plan)
    stacked = torch.cat(
        [
            (plan.order[:count, None] * 9 + torch.arange(start, stop)).flatten()
            for start, stop, count in plan.parts
        ]
    )
    assert torch.equal(stacked[places], rows)
    assert work(plan) == {0.0: 22, 1e9: 6 * 7 - 7}.get(
        call_cost, work(plan)
    )  # a row of no step is never read
    assert [part.start for part in plan.parts[1:]] == [part.stop for part in plan.parts[:-1]]


def test_calls_are_weighed_against_padding():
    lengths = torch.tensor([40, *[12] * 49])
    assert [part[:2] for part in plan_segments(lengths).parts] == [(0, 12), (12, 40)]
    assert len(plan_segments(torch.tensor([12, *[11] * 9])).parts) == 1  # nine steps are cheaper than a call


def test_needed_lengths():
    rows = torch.tensor([5, 0, 9, 11])
    assert needed_lengths(rows, 4, 4).tolist() == [1, 2, 4, 0]


@pytest.mark.parametrize("kind", ["dot", "mlp", "two layers", "input feeding", "captioner", "grid"])
def test_features_at_equals_features(kind):
    torch.manual_seed(3)
    if kind in ("captioner", "grid"):
        attention = "none" if kind == "captioner" else "dot"
        model = Captioner(7, 13, embedding=6, hidden=8, attention=attention, init_range=0.8)
        source = torch.rand(3, 7) if kind == "captioner" else torch.rand(3, 5, 7)
    else:
        model = AttentionSeq2Seq(
            11,
            13,
            embedding=6,
            hidden=8,
            attention_size=5,
            layers=2 if kind == "two layers" else 1,
            attention="mlp" if kind == "mlp" else "dot",
            input_feeding=kind == "input feeding",
            init_range=0.8,
        )
        source = torch.tensor([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 10, 3, 0]])
    model = model.double().eval()
    prefix = torch.randint(3, 13, (6, 20))  # two rows a source
    lengths = torch.tensor([4, 20, 1, 7, 7, 2])
    rows = (torch.arange(20) < lengths[:, None]).flatten().nonzero().squeeze(1)
    rows = rows[torch.randperm(len(rows))]
    source = source.double() if source.is_floating_point() else source

    def gradients(features: torch.Tensor) -> list[torch.Tensor]:
        used = [p for name, p in model.named_parameters() if not name.startswith("output")]
        return list(torch.autograd.grad(features.square().sum(), used))

    whole = model.features(source, prefix).flatten(0, 1)[rows]
    found = model.features_at(source, prefix, rows)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    for one, other in zip(gradients(found), gradients(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)

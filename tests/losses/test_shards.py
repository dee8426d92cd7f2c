"""Heads whose vocabulary is spread over processes: results and gradients are those of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

import softbellman as sb
from losses import shard_cases
from losses.harness import registered_operators
from losses.shard_cases import CASES, SHARD_ROWS, VOCABULARY
from softbellman import Head, reference

if not dist.is_available() or not dist.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

# Sums in another order. What two processes add up in 16 bits, each of them rounds once more.
TOLERANCES = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {"rtol": 1e-2, "atol": 4e-3},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes computed."""
    place = tmp_path_factory.mktemp("shards")
    torch.multiprocessing.start_processes(shard_cases.work, (str(place),), nprocs=2, start_method="spawn")
    return [torch.load(place / f"{rank}.pt") for rank in range(2)]


def together(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The weights' and biases' gradients put together; what both have has the same bits in both."""
    whole = {}
    for name in parts[0]:
        mine, other = (part[name] for part in parts)
        if name.startswith(("weight", "bias")):
            whole[name] = torch.cat([mine, other])
        else:
            assert torch.equal(mine.nan_to_num(7.0), other.nan_to_num(7.0)), name
            whole[name] = mine
    return whole


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_those_of_one_process(found: list[dict[str, Any]], name: str) -> None:
    case = CASES[name]
    expected, actual = shard_cases.compute(case), together([one[name] for one in found])
    assert expected.keys() == actual.keys()
    for part, value in expected.items():
        torch.testing.assert_close(
            actual[part], value, **TOLERANCES[case.dtype], msg=lambda m, part=part: f"{part}: {m}"
        )


def test_a_divergence_near_0_keeps_its_digits(found: list[dict[str, Any]]) -> None:
    for name, kind in (("reverse KL, nearly 0", "reverse_kl"), ("JSD, nearly 0", "jsd")):
        heads, given = shard_cases.given_numbers(CASES[name])
        logits, other = (Head(*(head[part] for part in shard_cases.PARTS)).logits() for head in heads)
        exact = reference.divergence(logits, other, kind=kind, mask=given["mask"])
        actual = found[0][name]["result 0"]
        assert 0.0 < float(actual[given["mask"]].max()) < 1e-10
        torch.testing.assert_close(actual, exact, rtol=1e-3, atol=1e-16)


def test_results_equal_the_reference_on_whole_logits(found: list[dict[str, Any]]) -> None:
    heads, given = shard_cases.given_numbers(CASES["statistics"])
    logits = Head(*(heads[0][part] for part in shard_cases.PARTS)).logits()
    exact = reference.token_statistics(logits, given["ids"], mask=given["mask"])
    for place, value in enumerate(exact):
        torch.testing.assert_close(found[0]["statistics"][f"result {place}"], value, rtol=1e-9, atol=1e-11)


def test_hidden_gradients_may_be_left_apart(found: list[dict[str, Any]]) -> None:
    mine, other = (one["partial"]["hidden"] for one in found)
    assert not torch.allclose(mine, other)
    heads, given = shard_cases.given_numbers(CASES["cross entropy"])
    hidden = heads[0]["hidden"].requires_grad_()
    head = Head(hidden, heads[0]["weight"], heads[0]["bias"])
    sb.token_cross_entropy(head, given["ids"], given["mask"], reduction="sum").backward()
    torch.testing.assert_close(mine + other, hidden.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("actor_loss", "heads in shards are for token_statistics, token_objective"),
        ("critic_loss", "heads in shards are for token_statistics, token_objective"),
        ("several teachers", "divergence from one distribution"),
        ("sample_tokens", "gather its weight first"),
        ("logits", "gather its weight first"),
        ("stored teacher", "other must be a Head in the shards of logits"),
        ("stored prior", "prior must"),
        ("id", f"ids in [0, {VOCABULARY})"),
        ("coarse", "must be below 1e8 temperatures"),
        ("rows", "the rows of weight, got"),
        ("count", "for each of the 2 processes"),
        ("vocabulary", "must leave a token to every process"),
    ],
)
def test_what_is_refused(found: list[dict[str, Any]], call: str, sentence: str) -> None:
    for one in found:
        assert sentence in one["refusals"][call]


def test_opcheck_covers_every_operator(found: list[dict[str, Any]]) -> None:
    registered = {name for name in registered_operators() if "shard" in name}
    assert found[0]["checked"] == sorted(registered)


def test_shards_without_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="shard_rows must be None without a process_group"):
        Head(torch.zeros(3, 4), torch.zeros(20, 4), shard_rows=SHARD_ROWS)
    with pytest.raises(TypeError, match=r"process_group must be a torch\.distributed\.ProcessGroup, got int"):
        Head(torch.zeros(3, 4), torch.zeros(20, 4), process_group=3)

"""Edit distance operators against the reference, against enumeration, and their promises to PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from payoffs.edit_cases import EditBatch, Tokens, completions, edit_distance, random_batch
from softbellman.losses import soft_target_cross_entropy
from softbellman.payoffs.edit_distance import (
    edit_distance_rewards,
    optimal_completion_values,
    prefix_edit_distance,
)
from softbellman.reference import edit_distance as reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES: tuple[dict[str, int], ...] = (
    {},
    {"sources": 1, "samples": 1, "length": 1, "reference_length": 1},
    {"sources": 5, "samples": 1, "length": 14, "alphabet": 2},
    {"sources": 2, "samples": 3, "length": 5, "reference_length": 33, "alphabet": 3},
    {"sources": 2, "samples": 2, "length": 40, "reference_length": 31, "alphabet": 4},
    {"sources": 1, "samples": 2, "length": 20, "reference_length": 64, "alphabet": 40},
    {"sources": 2, "samples": 1, "length": 7, "reference_length": 0},
)
check = settings(max_examples=60, deadline=None, derandomize=True)
batches = st.builds(
    random_batch,
    st.integers(0, 2**31),
    sources=st.integers(1, 3),
    samples=st.integers(1, 3),
    length=st.integers(0, 9),
    reference_length=st.integers(0, 9),
    alphabet=st.integers(2, 6),
    copied=st.sampled_from((0.0, 0.5, 0.95)),
)
sequences = st.lists(st.integers(0, 3), max_size=7).map(tuple)


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("eos", [None, 1])
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_distances_and_rewards_against_reference(size: int, eos: int | None) -> None:
    for seed in range(3):
        batch = random_batch(seed, **SIZES[size]).arguments()
        expected = reference.prefix_edit_distance(**batch, eos_id=eos)
        assert torch.equal(prefix_edit_distance(**batch, eos_id=eos), expected)
        for dtype in (torch.float32, torch.float64):
            rewards = edit_distance_rewards(**batch, eos_id=eos, dtype=dtype)
            expected = reference.edit_distance_rewards(**batch, eos_id=eos, dtype=dtype)
            assert rewards.dtype == dtype and torch.equal(rewards, expected)


@pytest.mark.parametrize("specials", [(), (2,), (3, 0, 1, 3)], ids=str)
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_values_against_reference(size: int, specials: Tokens) -> None:
    for seed, dtype in enumerate(DTYPES):
        batch = random_batch(seed, **SIZES[size]).arguments()
        options: dict[str, Any] = {"vocabulary": 41, "eos_id": 1, "special_ids": specials, "dtype": dtype}
        values = optimal_completion_values(**batch, **options)
        assert values.dtype == dtype
        assert torch.equal(values, reference.optimal_completion_values(**batch, **options))


@pytest.mark.parametrize("specials", [(), (3,)], ids=str)
def test_values_are_the_best_over_all_completions(specials: Tokens) -> None:
    """Vocabulary 4: every prefix of up to 3 tokens, every completion of up to 6, references of up to 4."""
    vocabulary, eos = 4, 0
    allowed = [token for token in range(1, vocabulary) if token not in specials]
    everything = list(completions(allowed, 6))
    references: list[Tokens] = [(), (1,), (1, 1), (2, 1, 2), (1, 2, 3, 3), (3, 1, 3, 2)]
    for target, prefix in product(references, completions((1, 2, 3), 3)):
        best = {token: vocabulary * 9 for token in allowed}
        for completion in everything:
            if completion:
                distance = edit_distance(prefix + completion, target)
                best[completion[0]] = min(best[completion[0]], distance)
        now = edit_distance(prefix, target)
        wanted = [-torch.inf] * vocabulary
        wanted[eos] = 0.0
        for token, distance in best.items():
            wanted[token] = float(now - distance)
        values = optimal_completion_values(
            torch.tensor([[*prefix, eos]]),
            torch.tensor([target], dtype=torch.int64),
            vocabulary=vocabulary,
            eos_id=eos,
            special_ids=specials,
        )
        assert values[0, -1].tolist() == wanted, (target, prefix)


@check
@given(sequences, sequences)
def test_distance_of_a_pair(one: Tokens, other: Tokens) -> None:
    """The definition, symmetry, and the bounds of the length."""

    def distance(hypothesis: Tokens, target: Tokens) -> int:
        if not hypothesis:
            return len(target)
        rows = torch.tensor([[hypothesis]]), torch.tensor([target], dtype=torch.int64)
        return int(prefix_edit_distance(*rows)[0, 0, -1])

    found = distance(one, other)
    assert found == edit_distance(one, other) == distance(other, one)
    assert abs(len(one) - len(other)) <= found <= max(len(one), len(other))
    assert (found == 0) == (one == other)


@check
@given(sequences, sequences, sequences)
def test_triangle_inequality(one: Tokens, other: Tokens, third: Tokens) -> None:
    width = 7
    tokens = torch.zeros(3, 3, width, dtype=torch.int64)
    lengths = torch.tensor([len(one), len(other), len(third)])
    for k, sequence in enumerate((one, other, third)):
        tokens[:, k, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
    distances = prefix_edit_distance(
        tokens, tokens[0], hypothesis_lengths=lengths.expand(3, 3), reference_lengths=lengths
    )
    pairwise = lengths[:, None].expand(3, 3).clone()  # the empty sequence is at the other's length
    for k in range(3):
        if lengths[k] > 0:
            pairwise[:, k] = distances[:, k, lengths[k] - 1]
    for a, b, c in product(range(3), repeat=3):
        assert pairwise[a, c] <= pairwise[a, b] + pairwise[b, c]


@check
@given(batches, st.integers(0, 5))
def test_rewards_add_up_and_values_bound_them(batch: EditBatch, eos: int) -> None:
    """Following Q earns what it says: V(y_<t) >= r_t + V(y_<t+1), with equality for a maximal token."""
    arguments = batch.arguments()
    rewards = edit_distance_rewards(**arguments, eos_id=eos, dtype=torch.float64)
    values = optimal_completion_values(**arguments, vocabulary=6, eos_id=eos, dtype=torch.float64)
    value = values.amax(-1)
    assert value.min() >= 0 if value.numel() else True
    for b, k in product(*map(range, rewards.shape[:2])):
        stated = int(batch.hypothesis_lengths[b, k])
        tokens = batch.hypotheses[b, k, :stated].tolist()
        length = tokens.index(eos) if eos in tokens else stated
        for t, token in enumerate(tokens[: length + 1]):
            chosen = values[b, k, t, token].item()
            if token == eos:
                assert chosen == 0 == rewards[b, k, t]
            elif t + 1 < stated:
                assert chosen == rewards[b, k, t] + value[b, k, t + 1]
        assert values[b, k, length + 1 :].count_nonzero() == 0 == rewards[b, k, length:].count_nonzero()


@check
@given(batches, st.integers(0, 5), st.randoms(use_true_random=False))
def test_selected_rows_are_those_of_the_full_tensor(batch: EditBatch, eos: int, random: Any) -> None:
    options: dict[str, Any] = {"vocabulary": 7, "eos_id": eos, "special_ids": (6, 0)}
    full = optimal_completion_values(**batch.arguments(), **options)
    count = batch.hypotheses.numel()
    rows = torch.tensor([random.randrange(count) for _ in range(5)] if count else [], dtype=torch.int64)
    selected = optimal_completion_values(**batch.arguments(), **options, rows=rows)
    assert torch.equal(selected, full.reshape(-1, 7)[rows])
    strided = torch.stack([rows, rows], 1)[:, 0]
    assert torch.equal(optimal_completion_values(**batch.arguments(), **options, rows=strided), selected)
    expected = reference.optimal_completion_values(**batch.arguments(), **options, rows=rows)
    assert torch.equal(selected, expected)


def test_edge_rows() -> None:
    values = optimal_completion_values(  # an empty reference: only ending loses nothing
        torch.tensor([[1, 2, 0, 2]]), torch.zeros((1, 0), dtype=torch.int64), vocabulary=3, eos_id=0
    )
    assert values.tolist() == [[[0, -1, -1], [0, -1, -1], [0, -1, -1], [0, 0, 0]]]
    values = optimal_completion_values(  # eos first: one state, then padding
        torch.tensor([[0, 2, 2]]), torch.tensor([[2, 1]]), vocabulary=3, eos_id=0
    )
    assert values.tolist() == [[[0, 1, 2], [0, 0, 0], [0, 0, 0]]]
    lengths = torch.tensor([0])  # an empty row: no state at all
    values = optimal_completion_values(
        torch.tensor([[2]]), torch.tensor([[2]]), vocabulary=3, eos_id=0, hypothesis_lengths=lengths
    )
    assert values.tolist() == [[[0, 0, 0]]]
    for shape in ((0, 2, 5), (2, 0, 5), (2, 3, 0)):
        hypotheses, references = torch.zeros(shape, dtype=torch.int64), torch.ones(shape[0], 4).long()
        assert prefix_edit_distance(hypotheses, references).shape == shape
        assert edit_distance_rewards(hypotheses, references).shape == shape
        values = optimal_completion_values(hypotheses, references, vocabulary=3, eos_id=0)
        assert values.shape == (*shape, 3)
    nothing = torch.zeros(0, dtype=torch.int64)
    values = optimal_completion_values(TOKENS, TOKENS, vocabulary=9, eos_id=0, rows=nothing)
    assert values.shape == (0, 9)
    values = optimal_completion_values(TOKENS - 4, TOKENS - 4, vocabulary=1, eos_id=0)  # cut at once
    assert values.tolist() == [[[0], [0], [0]]] * 2


def test_special_tokens_in_the_reference_are_replaced_by_anything() -> None:
    """Before an unknown word of the reference every ordinary token is as good; its cost is paid whatever is done."""
    options: dict[str, Any] = {"vocabulary": 5, "eos_id": 0, "special_ids": (1,)}
    values = optimal_completion_values(torch.tensor([[2, 0]]), torch.tensor([[2, 1, 3]]), **options)
    assert values[0].tolist() == [[0, -torch.inf, 2, 1, 1], [0, -torch.inf, 1, 1, 1]]
    both = optimal_completion_values(
        torch.tensor([[2]]), torch.tensor([[2]]), **{**options, "special_ids": (1, 0)}
    )
    assert both[0].tolist() == [[0, -torch.inf, 1, 0, 0]]  # the end keeps its value


def test_shapes_and_layouts() -> None:
    batch = random_batch(1, sources=4, samples=3, length=9, reference_length=8)
    expected = optimal_completion_values(**batch.arguments(), vocabulary=9, eos_id=1)
    wide, strided = torch.full((4, 3, 20), 99), torch.full((4, 16), 99)
    wide[..., 3:12], strided[:, ::2] = batch.hypotheses, batch.references
    for hypotheses, references in (
        (wide[..., 3:12], strided[:, ::2]),
        (batch.hypotheses.mT.contiguous().mT, batch.references.mT.contiguous().mT),
    ):
        changed = batch._replace(hypotheses=hypotheses, references=references)
        assert torch.equal(optimal_completion_values(**changed.arguments(), vocabulary=9, eos_id=1), expected)
        distances = prefix_edit_distance(**changed.arguments())
        assert torch.equal(distances, prefix_edit_distance(**batch.arguments()))
    flat = optimal_completion_values(
        batch.hypotheses[:, 0],
        batch.references,
        hypothesis_lengths=batch.hypothesis_lengths[:, 0].int(),
        reference_lengths=batch.reference_lengths,
        vocabulary=9,
        eos_id=1,
    )
    assert torch.equal(flat, expected[:, 0])


def test_any_int64_is_a_token_of_a_hypothesis() -> None:
    hypotheses = torch.tensor([[-(2**63), 2**63 - 1, -1, 5]])
    assert prefix_edit_distance(hypotheses, hypotheses).tolist() == [[3, 2, 1, 0]]
    values = optimal_completion_values(hypotheses, torch.tensor([[1, 2]]), vocabulary=3, eos_id=0)
    assert values[0, :2].tolist() == [[0, 2, 1], [0, 1, 1]]


def test_thread_counts() -> None:
    """Enough work for several threads, in the rows of the distance and in the rows of values."""
    for sources, samples in ((1, 40), (30, 3)):
        batch = random_batch(0, sources=sources, samples=samples, length=50, reference_length=50, alphabet=9)
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            values = optimal_completion_values(**batch.arguments(), vocabulary=101, eos_id=2)
            results.append((edit_distance_rewards(**batch.arguments()), values))
        for rewards, values in results[1:]:
            assert torch.equal(rewards, results[0][0]) and torch.equal(values, results[0][1])


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_the_cross_entropy_takes_the_values_as_they_are(tau: float) -> None:
    """`-inf` of special tokens, and rows that are constant (behind the end, masked or not)."""
    batch = random_batch(4, sources=4, samples=2)
    q = optimal_completion_values(
        **batch.arguments(), vocabulary=6, eos_id=1, special_ids=(5,), dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(q.shape, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = -(torch.softmax(q / tau, -1) * torch.log_softmax(logits, -1)).sum(-1)
    loss = soft_target_cross_entropy(logits, q, tau=tau)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(
        gradient, torch.softmax(logits, -1) - torch.softmax(q / tau, -1), rtol=1e-9, atol=1e-12
    )


def test_traces_without_a_break() -> None:
    batch = random_batch(0).arguments()

    def everything(**tokens: Tensor) -> tuple[Tensor, ...]:
        q = optimal_completion_values(**tokens, vocabulary=7, eos_id=1, special_ids=[5])
        rows = torch.arange(3, device=q.device)
        selected = optimal_completion_values(
            **tokens, vocabulary=7, eos_id=1, rows=rows, dtype=torch.bfloat16
        )
        return prefix_edit_distance(**tokens), edit_distance_rewards(**tokens, eos_id=1), q, selected

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(**batch), everything(**batch), strict=True):
        assert torch.equal(one, other)


TOKENS = torch.tensor([[4, 5, 6], [4, 5, 6]])
BATCH_ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "hypotheses must be a tensor, got list", {"hypotheses": [[1]]}),
    (TypeError, "hypotheses must hold int64 token ids, got torch.int32", {"hypotheses": TOKENS.int()}),
    (TypeError, "references must hold int64 token ids, got torch.float32", {"references": TOKENS.float()}),
    (ValueError, r"hypotheses must have 2 or 3 dimensions, got shape \(3,\)", {"hypotheses": TOKENS[0]}),
    (
        ValueError,
        r"references must have 2 dimensions, got shape \(2, 1, 3\)",
        {"references": TOKENS[:, None]},
    ),
    (ValueError, "references must have 2 sources like hypotheses, got 1", {"references": TOKENS[:1]}),
    (
        ValueError,
        "references must be on the CPU or a CUDA device, got meta",
        {"references": TOKENS.to("meta")},
    ),
    (
        ValueError,
        r"references must hold at most 2\*\*29 tokens in a row, got 536870913",
        {"references": TOKENS[:, :1].expand(2, 2**29 + 1)},
    ),
    (ValueError, r"hypothesis_lengths must have shape \(2,\)", {"hypothesis_lengths": torch.tensor([1])}),
    (ValueError, "hypothesis_lengths must lie .* 3, got 4", {"hypothesis_lengths": torch.tensor([0, 4])}),
    (ValueError, "reference_lengths must lie .* 3, got -1", {"reference_lengths": torch.tensor([-1, 3])}),
    (TypeError, "reference_lengths must be int64 or int32", {"reference_lengths": TOKENS[:, 0] > 0}),
]
VALUE_ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "vocabulary must be an int, got float", {"vocabulary": 7.0}),
    (ValueError, r"vocabulary must be between 1 and 2\*\*30, got 0", {"vocabulary": 0}),
    (TypeError, "eos_id must be an int, got NoneType", {"eos_id": None}),
    (ValueError, "eos_id must be between 0 and 6, got 7", {"eos_id": 7}),
    (TypeError, "special_ids must hold ints, got str", {"special_ids": "12"}),
    (ValueError, "special_ids must be between 0 and 6, got -1", {"special_ids": (1, -1)}),
    (ValueError, "special_ids must hold at most 16 ids, got 17", {"special_ids": [1] * 17}),
    (ValueError, r"references must be ids in \[0, 6\), got 6", {"vocabulary": 6}),
    (TypeError, "rows must be a tensor, got list", {"rows": [0]}),
    (TypeError, "rows must hold int64 places of states, got torch.bool", {"rows": TOKENS[0] > 0}),
    (ValueError, r"rows must have 1 dimension, got shape \(2, 3\)", {"rows": TOKENS}),
    (ValueError, "rows must lie between 0 and 5, got 6", {"rows": TOKENS[0]}),
    (ValueError, "rows must be on the device of hypotheses, cpu, got meta", {"rows": TOKENS[0].to("meta")}),
    (TypeError, "dtype must be float32, .* or float16, got torch.int64", {"dtype": torch.int64}),
]


@pytest.mark.parametrize(("error", "message", "changed"), BATCH_ERRORS)
def test_refusals_of_batches(error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    arguments = {"hypotheses": TOKENS, "references": TOKENS, **changed}
    functions: tuple[tuple[Callable[..., Tensor], dict[str, Any]], ...] = (
        (prefix_edit_distance, {}),
        (edit_distance_rewards, {}),
        (optimal_completion_values, {"vocabulary": 7, "eos_id": 0}),
    )
    for function, options in functions:
        with pytest.raises(error, match=message):
            function(**arguments, **options)


@pytest.mark.parametrize(("error", "message", "changed"), VALUE_ERRORS)
def test_refusals_of_values(error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    options = {"vocabulary": 7, "eos_id": 0, **changed}
    with pytest.raises(error, match=message):
        optimal_completion_values(TOKENS, TOKENS, **options)


def test_refusals_of_distances() -> None:
    with pytest.raises(TypeError, match="eos_id must be an int or None, got float"):
        prefix_edit_distance(TOKENS, TOKENS, eos_id=3.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"dtype must be .* or .*float64, got .*float16"):
        edit_distance_rewards(TOKENS, TOKENS, dtype=torch.float16)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_the_device_gives_the_bits_of_the_cpu(size: int) -> None:
    for seed, dtype in enumerate(DTYPES):
        batch = random_batch(seed, **SIZES[size]).arguments()
        there = {name: tensor.cuda() for name, tensor in batch.items()}
        for vocabulary in (41, 5000, 32001):
            options: dict[str, Any] = {
                "vocabulary": vocabulary,
                "eos_id": 1,
                "special_ids": (0, 2),
                "dtype": dtype,
            }
            expected = optimal_completion_values(**batch, **options)
            assert torch.equal(optimal_completion_values(**there, **options).cpu(), expected)
        for function in (prefix_edit_distance, edit_distance_rewards):
            assert torch.equal(function(**there, eos_id=1).cpu(), function(**batch, eos_id=1))
    rows = torch.tensor([0, -1, 10**9], device="cuda")  # outside: zeros, nothing is read
    values = optimal_completion_values(**there, vocabulary=41, eos_id=1, rows=rows)
    assert values[1:].count_nonzero() == 0

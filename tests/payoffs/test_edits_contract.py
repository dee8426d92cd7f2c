"""What the edits promise beside their law: schemas, compilation, threads, ranges, refusals."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
import torch

import softbellman
from payoffs.edits_cases import weighted_batch
from softbellman import edit_log_density, sample_edits
from softbellman.core import native
from softbellman.core.launch import CODES
from softbellman.reference.edit_processes import Proposal

PROPOSALS = ("ngram", "corrupt", "hamming", "edit")
TOKENS = torch.tensor([[4, 5, 6, 2], [7, 4, 3, 3]])
LENGTHS = torch.tensor([4, 2])


def raw_calls() -> list[tuple[str, tuple[Any, ...]]]:
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for code in (0, 3):
        proposal = (code, 9, [2, 3], 4, 0.2, 1.0, 3, [1.0, 1.0, 1.0])
        calls.append(("edit_samples", (TOKENS, LENGTHS, 3, 0, 1, 2, *proposal, False)))
        calls.append(("edit_samples", (TOKENS, None, 2, -1, 1, 2, *proposal, True)))
        edited = TOKENS.unsqueeze(1).expand(2, 5, 4)
        calls.append(
            ("edit_density", (TOKENS, LENGTHS, edited, LENGTHS[:, None].repeat(1, 5), *proposal, True))
        )
        calls.append(("edit_density", (TOKENS, None, edited, None, *proposal, False)))
    return calls


@pytest.mark.parametrize(("name", "arguments"), raw_calls())
def test_opcheck(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_compiled_without_a_graph_break_equals_eager() -> None:
    def batch(tokens: torch.Tensor, lengths: torch.Tensor, offset: int) -> tuple[torch.Tensor, ...]:
        edits: dict[str, Any] = {
            "samples": 3, "proposal": "edit", "vocabulary": 9, "seed": 1, "offset": offset, "keep_gold": True,
        }  # fmt: skip
        return weighted_batch(softbellman, tokens, lengths, edits=edits, payoff={}, tau=0.5)

    torch._dynamo.reset()
    compiled = torch.compile(batch, fullgraph=True, backend="aot_eager", dynamic=True)
    for offset in range(3):
        for tokens in (TOKENS, TOKENS.repeat(2, 3)):
            lengths = LENGTHS.repeat(len(tokens) // 2)
            for one, other in zip(
                compiled(tokens, lengths, offset), batch(tokens, lengths, offset), strict=True
            ):
                assert torch.equal(one, other)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_one_and_two_threads_give_the_same_bits(proposal: str) -> None:
    tokens = torch.randint(0, 500, (60, 25), generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        answers = []
        for count in (1, 2):
            torch.set_num_threads(count)
            answers.append(
                sample_edits(tokens, samples=20, proposal=proposal, vocabulary=500, seed=3, temperature=2.0)
            )
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


def test_inputs_are_not_written() -> None:
    tokens, lengths = TOKENS.clone(), LENGTHS.clone()
    edits = sample_edits(tokens, lengths, samples=2, proposal="edit", vocabulary=9, seed=1)
    kept = [value.clone() for value in edits]
    edit_log_density(tokens, edits.tokens, lengths, edits.lengths, proposal="edit", vocabulary=9)
    assert torch.equal(tokens, TOKENS) and torch.equal(lengths, LENGTHS)
    assert all(torch.equal(one, other) for one, other in zip(edits, kept, strict=True))


def table(
    length: int,
    max_distance: int,
    alphabet: int,
    temperature: float,
    weights: tuple[float, float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Thresholds and log normalizers of the edit proposal, without weights of hamming."""
    cells = (length + 1) * (max_distance + 1)
    thresholds = torch.full((cells * (4 if weights else 1),), -1)
    normalizers = torch.zeros(length + 1, dtype=torch.float64)
    substitution, insertion, deletion = weights or (0.0, 0.0, 0.0)
    native.cpu.fill_edit_tables(
        edit=weights is not None,
        length=length,
        max_distance=max_distance,
        alphabet=alphabet,
        temperature=temperature,
        substitution=substitution,
        insertion=insertion,
        deletion=deletion,
        thresholds=(thresholds.data_ptr(), thresholds.numel(), CODES[torch.int64]),
        log_normalizers=(normalizers.data_ptr(), normalizers.numel(), CODES[torch.float64]),
    )
    return thresholds, normalizers


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (6.0, 7.0, 1.0), (1e-9, 1e5, 0.0), (3.0, 0.0, 1e-7)])
def test_tables_against_exact_fractions(weights: tuple[float, float, float]) -> None:
    length, limit, temperature = 9, 6, 0.7
    exact_weights = tuple(map(Fraction, weights))
    for name in ("hamming", "edit"):
        process = Proposal(name, tuple(range(7)), 4, 0.2, temperature, limit, exact_weights)  # type: ignore[arg-type]
        thresholds, normalizers = table(length, limit, 7, temperature, weights if name == "edit" else None)
        for n in range(length + 1):
            exact = process.distances(n)
            assert normalizers[n].item() == pytest.approx(math.log(sum(exact)), abs=1e-13)
            for d, share in enumerate(accumulate(exact)):
                wanted = math.floor(share / sum(exact) * 2**62)
                assert abs(thresholds[n * (limit + 1) + d].item() - wanted) <= 2**62 * 1e-14
        if name == "edit":
            walk = thresholds[(length + 1) * (limit + 1) :].view(length + 1, limit + 1, 3)
            for m in range(1, length + 1):
                for left in range(limit + 1):
                    parts = [
                        exact_weights[1] * process.scripts(m, left - 1),
                        process.scripts(m - 1, left),
                        exact_weights[0] * process.scripts(m - 1, left - 1),
                    ]
                    if total := process.scripts(m, left):
                        for column, share in enumerate(accumulate(parts)):
                            wanted = math.floor(share / total * 2**62)
                            assert abs(walk[m, left, column].item() - wanted) <= 2**62 * 1e-14


def test_large_vocabularies_and_long_sequences_stay_in_range() -> None:
    vocabulary, length = 150_000, 256
    tokens = torch.arange(length).view(1, length)
    for temperature in (0.05, 0.08, 1.0, 256.0):
        edits = sample_edits(
            tokens, samples=50, proposal="hamming", vocabulary=vocabulary, seed=1, temperature=temperature
        )
        distance = (edits.tokens != tokens[:, None]).sum(-1)
        # Z_n = (1 + (A-1) exp(-1/T))^n
        odds = (vocabulary - 1) * math.exp(-1 / temperature)
        expected = -distance / temperature - length * math.log1p(odds)
        torch.testing.assert_close(edits.log_density, expected.double(), rtol=1e-6, atol=0)
        exact = -distance.double() / temperature - length * math.log1p(odds)
        torch.testing.assert_close(edits.log_density, exact, rtol=1e-14, atol=0)
        mean = length * odds / (1 + odds)
        deviation = math.sqrt(mean / (1 + odds) / 50) + 1e-9
        assert abs(distance.double().mean() - mean) < 5 * deviation
    edits = sample_edits(
        tokens, samples=8, proposal="edit", vocabulary=vocabulary, seed=1, temperature=256.0, max_distance=64
    )
    assert edits.log_density.isfinite().all() and edits.log_density.max() < -500


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (149_999.0, 150_000.0, 1.0), (0.25, 3.0, 20.0)])
def test_sixty_four_operations_on_a_large_vocabulary(weights: tuple[float, float, float]) -> None:
    """Outcomes that one script alone reaches, so that their density is a product."""
    size, temperature = 150_000, 3.0
    substitution, insertion, deletion = weights
    arguments: dict[str, Any] = {"proposal": "edit", "vocabulary": size, "temperature": temperature}
    arguments |= {"max_distance": 64, "operation_weights": weights}
    exact = tuple(map(Fraction, weights))
    process = Proposal("edit", (), 4, 0.2, temperature, 64, exact)  # type: ignore[arg-type]
    for x, y, log_weight in (
        (torch.arange(64), torch.arange(100, 164), 64 * math.log(substitution / (size - 1))),
        (torch.arange(64), torch.arange(0), 64 * math.log(deletion)),
        (
            torch.arange(1),
            torch.cat([torch.arange(9, 40), torch.arange(34)]),
            64 * math.log(insertion / size),
        ),
    ):
        normalizer = sum(process.distances(len(x)))
        log_normalizer = math.log(normalizer.numerator) - math.log(normalizer.denominator)
        density = edit_log_density(x.view(1, -1), y.view(1, 1, -1), **arguments)
        assert density.item() == pytest.approx(log_weight - 64 / temperature - log_normalizer, rel=1e-13)


def test_the_geometric_sum_over_all_scripts() -> None:
    """Far from its limit, Z_n is the generating function ((1 + (s + d) x)^n / (1 - i x)^(n + 1)) at x = exp(-1/T)."""
    _, normalizers = table(20, 64, 100, 0.4, (2.0, 1.5, 0.5))
    x = math.exp(-1 / 0.4)
    for n in range(1, 21):
        expected = n * math.log1p(2.5 * x) - (n + 1) * math.log1p(-1.5 * x)
        assert normalizers[n].item() == pytest.approx(expected, rel=1e-13)


ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "tokens must be a tensor, got list", {"tokens": [[1]]}),
    (TypeError, "tokens must hold int64 token ids, got torch.int32", {"tokens": TOKENS.int()}),
    (ValueError, r"tokens must have 2 dimensions, got shape \(4,\)", {"tokens": TOKENS[0]}),
    (ValueError, "tokens must be on the CPU or a CUDA device, got meta", {"tokens": TOKENS.to("meta")}),
    (ValueError, "tokens must be ids below the vocabulary, 6, got 6", {"vocabulary": 6}),
    (ValueError, "tokens must be ids below the vocabulary, 9, got -1", {"tokens": TOKENS - 3}),
    (ValueError, r"lengths must have shape \(2,\)", {"lengths": torch.tensor([1])}),
    (ValueError, "lengths must lie between 0 and 4, got 5", {"lengths": torch.tensor([0, 5])}),
    (ValueError, "lengths must lie between 0 and 4, got -1", {"lengths": torch.tensor([-1, 2])}),
    (TypeError, "lengths must be int64 or int32, got torch.bool", {"lengths": LENGTHS > 2}),
    (TypeError, "lengths must be a tensor, got list", {"lengths": [1, 2]}),
    (ValueError, "proposal must be one of 'ngram', 'corrupt', .* got 'swap'", {"proposal": "swap"}),
    (ValueError, "vocabulary must be between 1 and 16777216, got 0", {"vocabulary": 0}),
    (TypeError, "vocabulary must be an int, got float", {"vocabulary": 9.0}),
    (TypeError, "special_ids must hold ints, got str", {"special_ids": ("pad",)}),
    (
        ValueError,
        "special_ids must hold at most 16 ids, got 17",
        {"special_ids": range(17), "vocabulary": 99},
    ),
    (ValueError, "max_order must be between 1 and 16, got 0", {"max_order": 0}),
    (ValueError, "rate must be between 0 and 1, got 1.5", {"rate": 1.5}),
    (ValueError, "temperature must be a finite number above 0, got 0.0", {"temperature": 0.0}),
    (ValueError, "max_distance must be between 0 and 64, got 65", {"max_distance": 65}),
    (TypeError, "max_distance must be an int, got bool", {"max_distance": True}),
    (ValueError, "operation_weights must be three .* got 2", {"operation_weights": (1.0, 1.0)}),
    (
        ValueError,
        "operation_weights must be a finite number of at least 0",
        {"operation_weights": (1, -1, 1)},
    ),
    (ValueError, "operation_weights must be .* got inf", {"operation_weights": (1.0, math.inf, 1.0)}),
    (ValueError, "operation_weights must not all be 0", {"operation_weights": (0, 0, 0)}),
    (
        ValueError,
        "operation_weights are too uneven for a max_distance of 64 and 64 tokens",
        {"tokens": TOKENS[:1].repeat(1, 16), "max_distance": 64, "operation_weights": (1e8, 1e-8, 1e8)},
    ),
]


@pytest.mark.parametrize(("error", "message", "changed"), ERRORS)
def test_refusals(error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    arguments = {"tokens": TOKENS, "proposal": "edit", "vocabulary": 9, "special_ids": (2, 3), **changed}
    with pytest.raises(error, match=message):
        sample_edits(samples=2, seed=1, **arguments)
    with pytest.raises(error, match=message):
        edit_log_density(edited=torch.zeros((len(arguments["tokens"]), 1, 4), dtype=torch.int64), **arguments)


@pytest.mark.parametrize(
    ("error", "message", "changed"),
    [
        (ValueError, r"samples must be between 0 and 2\*\*31 - 1, got -1", {"samples": -1}),
        (TypeError, "seed must be an int, got float", {"seed": 1.0}),
        (ValueError, r"offset must be between 0 and 2\*\*63 - 1, got -1", {"offset": -1}),
        (TypeError, "pad_id must be an int, got NoneType", {"pad_id": None}),
        (
            ValueError,
            r"max_distance must be at most 2\*\*22 / \(tokens in a row\), got 5000 with 5000 tokens",
            {"tokens": TOKENS[:1].expand(1, 4).repeat(1, 1250), "proposal": "hamming"},
        ),
    ],
)
def test_refusals_of_samples(error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "tokens": TOKENS,
        "samples": 1,
        "proposal": "ngram",
        "vocabulary": 9,
        "seed": 1,
    }
    with pytest.raises(error, match=message):
        sample_edits(**{**arguments, **changed})


def test_refusals_of_given_edits() -> None:
    edited = TOKENS[:, None]
    for changed, message in (
        ({"edited": TOKENS}, "edited must have 3 dimensions"),
        ({"edited": edited[:1]}, "edited must have 2 references like tokens, got 1"),
        ({"edited_lengths": LENGTHS}, r"edited_lengths must have shape \(2, 1\)"),
        ({"edited_lengths": LENGTHS[:, None] + 1}, "edited_lengths must lie between 0 and 4, got 5"),
    ):
        arguments: dict[str, Any] = {"edited": edited, **changed}
        with pytest.raises(ValueError, match=message):
            edit_log_density(TOKENS, proposal="ngram", vocabulary=9, **arguments)


def test_given_edits_that_cannot_be() -> None:
    """Wrong lengths, special tokens moved, ids outside the vocabulary: no density, on no proposal."""
    tokens = torch.tensor([[2, 4, 5]])
    impossible = torch.tensor([[[4, 2, 5], [2, 4, 9], [2, 4, -1], [2, 2, 5], [4, 4, 5], [3, 4, 5]]])
    for proposal in PROPOSALS:
        density = edit_log_density(tokens, impossible, proposal=proposal, vocabulary=9, special_ids=(2, 3))
        assert (density == -math.inf).all()
    longer = torch.tensor([[[2, 4, 5, 5, 5]]])
    for proposal in PROPOSALS:
        density = edit_log_density(tokens, longer, proposal=proposal, vocabulary=9, max_distance=1)
        assert density.item() == -math.inf

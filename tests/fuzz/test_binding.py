"""Every function of the native core, called by the operators as always and each time with a mistake before: refused with a
sentence, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from losses import harness
from losses.families import FAMILIES
from mistakes import mistakes
from torch import Tensor

import softbellman as ops
from softbellman.core import native
from softbellman.payoffs import proposals

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# What no operator calls, or calls without fields: test_direct.py has them.
DIRECT = {
    "product",
    "exponential", "ask_for_huge_pages", "document_table_bits", "exact_log", "exact_exp", "DocumentCounter",
}  # fmt: skip


class Mistaken:
    """`softbellman._C.cpu`; before each call the same call with one field wrong, which must be refused by name."""

    def __init__(self, core: Any, draw: Callable[[Any], Any], called: set[str]) -> None:
        self.core, self.draw, self.called = core, draw, called

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.core, name)
        if name in DIRECT or not callable(function):
            return function

        def call(**fields: Any) -> Any:
            self.called.add(name)
            wrong, value = self.draw(mistakes(fields))
            with pytest.raises(ValueError, match=r".+"):
                print(name, wrong, value, function(**{**fields, wrong: value}))
            with pytest.raises(ValueError, match="is no field of this kernel"):
                function(**fields, surplus=1)
            return function(**fields)

        return call


def loss_results(seed: int, dtype: torch.dtype, shape: tuple[int, ...]) -> list[Tensor]:
    """Results and gradients of every loss on one small problem."""
    results: list[Tensor] = []
    for family in FAMILIES:
        generator = torch.Generator().manual_seed(seed)
        arguments = harness.cast(family, family.make(shape, generator), dtype)
        upstream = harness.random_upstream(family, arguments, generator)
        for found in harness.run(family, ops, arguments, upstream):
            results += found.values()
    generator = torch.Generator().manual_seed(seed)
    p, o, prior = (torch.randn(shape, generator=generator).to(dtype) for _ in range(3))
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        leaf = p.clone().requires_grad_()
        value = ops.divergence(leaf, o, kind=kind)
        results += [value.detach(), *torch.autograd.grad(value.sum(), leaf)]
    results.append(ops.soft_value(p, tau=0.5, prior=prior))
    results += ops.sample_tokens(p, seed=3, offset=seed)
    return results


def payoff_results(seed: int, sources: int, length: int) -> list[Tensor]:
    """Results of every payoff on one small batch."""
    generator = torch.Generator().manual_seed(seed)
    hypotheses = torch.randint(0, 9, (sources, 2, length), generator=generator)
    references = torch.randint(0, 9, (sources, 3, length + 1), generator=generator)
    batch: dict[str, Any] = {"hypotheses": hypotheses, "references": references, "unmatched_id": 3}
    batch["hypothesis_lengths"] = torch.randint(0, length + 1, (sources, 2), generator=generator)
    batch["reference_lengths"] = torch.randint(0, length + 2, (sources, 3), generator=generator)
    frequencies = ops.DocumentFrequencies.from_references(references, max_order=3)
    counts = ops.corpus_bleu_statistics(**batch)
    results = [counts, torch.tensor(ops.corpus_bleu(counts))]
    results += [ops.prefix_bleu(**batch), ops.bleu_rewards(**batch, dtype=torch.float64)]
    results += [ops.sentence_rouge_l(**batch), ops.cider_rewards(**batch, frequencies=frequencies)]
    single = {"references": references[:, 0], "reference_lengths": batch["reference_lengths"][:, 0]}
    distance = {**single, "hypotheses": hypotheses, "hypothesis_lengths": batch["hypothesis_lengths"]}
    results.append(ops.prefix_edit_distance(**distance, eos_id=1))
    rows = torch.randint(0, sources * 2 * length, (4,), generator=generator) if sources * length else None
    results.append(
        ops.optimal_completion_values(**distance, eos_id=1, vocabulary=9, special_ids=(2,), rows=rows)
    )
    options = {"eos_id": 1, "vocabulary": 9, "special_ids": (2,), "max_order": 3}
    results.append(ops.bleu_completion_values(**batch, **options, rows=rows))
    for proposal in ("ngram", "corrupt", "hamming", "edit"):
        options = {"proposal": proposal, "vocabulary": 9, "special_ids": (0, 4), "max_distance": 3}
        edits = ops.sample_edits(*single.values(), samples=3, seed=seed, **options)
        scored = ops.edit_log_density(
            *[single["references"], edits.tokens, *list(single.values())[1:]], **options
        )
        results += [*edits, scored]
    return results


CALLED: set[str] = set()


def unchanged_by_mistakes(data: st.DataObject, results: Callable[[], list[Tensor]]) -> None:
    expected = results()
    proposals._tables.cache_clear()
    core = native.cpu
    native.cpu = Mistaken(core, data.draw, CALLED)  # type: ignore[assignment]
    try:
        found = results()
    finally:
        native.cpu = core
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


@fuzz
@given(st.data(), st.integers(0, 2**31), st.sampled_from(DTYPES), st.integers(0, 4), st.integers(1, 40))
def test_the_losses(data: st.DataObject, seed: int, dtype: torch.dtype, rows: int, vocabulary: int) -> None:
    unchanged_by_mistakes(data, lambda: loss_results(seed, dtype, (2, rows, vocabulary)))


@fuzz
@given(st.data(), st.integers(0, 2**31), st.integers(0, 3), st.integers(0, 6))
def test_the_payoffs(data: st.DataObject, seed: int, sources: int, length: int) -> None:
    unchanged_by_mistakes(data, lambda: payoff_results(seed, max(sources, 1), length))


def test_every_function_of_the_core_was_called_with_mistakes() -> None:
    if not {"soft_value_forward", "bleu_scores"} <= CALLED:
        pytest.skip("asked only where the tests above ran")
    functions = {
        name for name in dir(native.cpu) if callable(getattr(native.cpu, name)) and not name.startswith("_")
    }
    assert functions - CALLED - DIRECT == set()

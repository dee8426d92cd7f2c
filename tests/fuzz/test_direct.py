"""Functions of the native core that take plain numbers, tables from elsewhere, and sizes that nobody has memory for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import softbellman as ops
from softbellman.core import native
from softbellman.core.launch import CODES, row_matrix
from softbellman.reference import frequencies as reference

HUGE = st.one_of(
    st.integers(0, 70), st.sampled_from([2**20, 2**29, 2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1])
)
STRIDE = st.integers(-(2**63), 2**63 - 1)


def array(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.numel(), CODES[tensor.dtype]


# ---- sizes: a workspace is asked for before there is memory, so any sizes may come ----


@fuzz
@given(
    st.sampled_from(
        ["bleu_workspace", "cider_workspace", "rouge_workspace", "edit_workspace", "completion_workspace"]
    ),
    *[HUGE] * 6,
    st.tuples(STRIDE, STRIDE),
    st.integers(1, 8),
    st.sampled_from([1, 3, 2**20]),
)
def test_workspaces_of_any_size(
    name: str,
    sources: int,
    samples: int,
    length: int,
    other_sources: int,
    references: int,
    width: int,
    strides: tuple[int, int],
    order: int,
    threads: int,
) -> None:
    """A number of bytes that 64 bits hold, or a sentence that names the argument."""
    fields: dict[str, Any] = {
        "hypotheses": (4096, *strides, sources, samples, length, 4),
        "references": (4096, *strides, other_sources, references, width, 4),
        "threads": threads,
    }
    if name in ("bleu_workspace", "cider_workspace"):
        fields["max_order"] = order
    try:
        size = getattr(native.cpu, name)(**fields)
    except ValueError as error:
        assert str(error).startswith(("hypotheses", "references"))
        return
    assert sources == other_sources
    assert 0 <= size < 2**62


@fuzz
@given(HUGE.filter(bool), HUGE.filter(bool), st.integers(0, 1))
def test_rows_of_any_number(rows: int, vocabulary: int, stride: int) -> None:
    """Expanded rows cost no memory; their results do, and their number is compared in 64 bits."""
    value = torch.zeros(3)
    fields = {"q": (value.data_ptr(), stride * vocabulary, rows, vocabulary, 0), "tau": 1.0, "threads": 1}
    fields |= {"value": array(value), "correction": array(value)}
    if rows == 3:
        fields["value"] = array(value[:2])
    with pytest.raises(ValueError, match=r"value must have|q must hold at most"):
        native.cpu.soft_value_forward(**fields)


@pytest.mark.parametrize(
    ("shape", "rows"), [((2**40, 3), 2**40), ((2**20, 2**20, 5), 2**40), ((2**31 + 1, 1), 2**31 + 1)]
)
def test_expanded_rows_are_described(shape: tuple[int, ...], rows: int) -> None:
    matrix = row_matrix(
        torch.zeros(1).expand(shape) if shape[-1] == 1 else torch.zeros(shape[-1]).expand(shape)
    )
    assert matrix.rows == rows and matrix.stride == 0 and matrix.vocabulary == shape[-1]


@fuzz
@given(st.integers(0, 2**63 - 1))
def test_bits_of_a_table(ngrams: int) -> None:
    """At least twice as many slots as n-grams, or a refusal: not a loop."""
    try:
        bits = native.cpu.document_table_bits(ngrams)
    except ValueError as error:
        assert "n-grams" in str(error) and ngrams > 2**29
        return
    assert 2 <= bits <= 30 and 2 * ngrams <= 2**bits


@pytest.mark.parametrize("ngrams", [-1, -(2**63), 2**62, 2**63 - 1])
def test_tables_that_cannot_be(ngrams: int) -> None:
    with pytest.raises(ValueError, match="n-grams"):
        native.cpu.document_table_bits(ngrams)


@pytest.mark.parametrize("count", [-1, -(2**63)])
def test_the_exponential_of_fewer_than_no_numbers(count: int) -> None:
    x = torch.ones(4)
    with pytest.raises(ValueError, match="count must be at least 0"):
        native.cpu.exponential(x.data_ptr(), count, 0, 1.0, x.data_ptr())
    assert torch.equal(x, torch.ones(4))


def test_huge_pages_of_nothing() -> None:
    for data, size in ((0, 0), (0, 2**40), (4096, 0), (4096, -1), (4096, -(2**63)), (4097, 3)):
        assert native.cpu.ask_for_huge_pages(data, size) in (True, False, None)


@fuzz
@given(
    st.sampled_from(["hamming", "edit"]),
    st.floats(1e-300, 1e300),
    st.tuples(*[st.one_of(st.just(0.0), st.floats(0.0, 1e300))] * 3),
    st.integers(0, 6),
    st.integers(0, 5),
)
def test_tables_of_any_temperature_and_weights(
    proposal: str, temperature: float, weights: tuple[float, float, float], distance: int, length: int
) -> None:
    """Densities that are numbers, or a sentence."""
    tokens = torch.arange(3 * length).view(3, length)
    options: dict[str, Any] = {"proposal": proposal, "vocabulary": 20, "temperature": temperature}
    options |= {"max_distance": distance, "operation_weights": weights}
    try:
        edits = ops.sample_edits(tokens, samples=2, seed=1, **options)
    except ValueError as error:
        assert str(error)
        return
    assert not edits.log_density.isnan().any()
    assert torch.equal(
        ops.edit_log_density(tokens, edits.tokens, None, edits.lengths, **options), edits.log_density
    )


# ---- document frequencies ----


@fuzz
@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=2), min_size=1, max_size=4
    )
)
def test_document_frequencies_are_those_of_the_reference(corpus: list[list[list[int]]]) -> None:
    width, count = max(len(row) for rows in corpus for row in rows), max(map(len, corpus))
    tokens = torch.full((len(corpus), count, width), 7)
    lengths = torch.zeros(len(corpus), count, dtype=torch.int64)
    for b, rows in enumerate(corpus):
        for r, row in enumerate(rows):
            tokens[b, r, : len(row)] = torch.tensor(row, dtype=torch.int64)
            lengths[b, r] = len(row)
    options: dict[str, Any] = {"reference_lengths": lengths, "max_order": 3, "unmatched_id": 3}
    found = ops.DocumentFrequencies.from_references(tokens, **options)
    expected = reference.DocumentFrequencies.from_references(tokens, **options)
    assert found.documents == expected.documents == len(corpus)
    listed = [tuple(row) for rows in found.ngrams for row in rows.tolist()]
    assert dict(zip(listed, torch.cat(found.counts).tolist(), strict=True)) == dict(expected.counts)


@pytest.mark.parametrize("order", [0, -1, 9, 2**31 - 1, -(2**31)])
def test_a_counter_of_an_order_that_is_none(order: int) -> None:
    with pytest.raises(ValueError, match="max_order must be from 1 to 8"):
        native.cpu.DocumentCounter(order)
    counter = native.cpu.DocumentCounter(3)
    with pytest.raises(ValueError, match="order must be from 1 to 3"):
        counter.size(order)


def counted() -> Any:
    counter = native.cpu.DocumentCounter(2)
    tokens = torch.tensor([[1, 2, 3], [1, 2, 2]])
    counter.add(references=(tokens.data_ptr(), 3, 0, 2, 1, 3, 4), reference_lengths=None)
    return counter


def test_a_counter_writes_into_what_holds_its_ngrams() -> None:
    counter = counted()
    size = counter.size(2)
    ngrams, counts = torch.zeros(size, 2, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    right = {"order": 2, "ngrams": array(ngrams), "counts": array(counts)}
    counter.write(**right)
    assert ngrams.tolist() == [[1, 2], [2, 2], [2, 3]] and counts.tolist() == [2, 1, 1]
    for wrong in (
        {"order": 1}, {"order": 3}, {"order": 0}, {"ngrams": array(counts)}, {"counts": array(counts[:2])},
        {"counts": (0, size, 4)}, {"counts": array(counts.double())}, {"ngrams": None}, {"more": 1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            counter.write(**{**right, **wrong})


BATCH = {"hypotheses": torch.tensor([[1, 2, 9]]), "references": torch.tensor([[1, 2, 3]])}


def cider(token_slots: Tensor, ngram_slots: Tensor) -> Tensor:
    options = {"max_order": 2, "unseen": 1.0, "sigma": 6.0, "output": 0, "scaled": False, "float64": True}
    names = {"hypothesis_lengths": None, "reference_lengths": None, "eos_id": None, "unmatched_id": None}
    batch = {name: rows[:, None] for name, rows in BATCH.items()}
    slots = {"token_slots": token_slots, "ngram_slots": ngram_slots}
    return torch.ops.softbellman.cider_scores(**batch, **names, **slots, **options)  # type: ignore[no-any-return]


@fuzz
@given(st.integers(1, 4), st.sampled_from([0, 1, -1, 2**62, -(2**62)]), st.integers(0, 2**31))
def test_slots_of_any_content_end(bits: int, fill: int, seed: int) -> None:
    """A table without a free slot, or of weights that are none: a score comes, whatever it is."""
    slots = torch.full((2**bits, 2), fill)
    assert cider(slots, slots).shape == (1, 1, 3)
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(-(2**63), 2**63 - 1, (2**bits, 2), generator=generator)
    assert cider(random, random).shape == (1, 1, 3)


def test_a_table_of_one_slot_is_refused() -> None:
    slots = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="slots of document frequencies must be a power of two"):
        cider(slots, slots)


def test_a_table_that_is_full_takes_no_more() -> None:
    """Each order fits by itself; together they do not: refused, where it would have looked for a free slot for ever."""
    tokens, longer = torch.zeros(8, 2, dtype=torch.int64), torch.zeros(4, 2, dtype=torch.int64)
    table = {"token_slots": array(tokens), "ngram_slots": array(longer), "unseen": 1.0, "documents": 5}
    rows = {1: torch.tensor([[1], [2], [3], [4]])}
    rows |= {2: torch.tensor([[1, 2], [2, 3]]), 3: torch.tensor([[1, 2, 3], [2, 3, 4]])}
    rows[4] = torch.tensor([[1, 2, 3, 4]])
    counts = {order: torch.ones(len(ngrams), dtype=torch.int64) for order, ngrams in rows.items()}
    with pytest.raises(ValueError, match="no free slot"):
        for order, ngrams in rows.items():
            native.cpu.fill_document_table(
                **table, order=order, ngrams=array(ngrams), counts=array(counts[order])
            )


SIDE = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 127, 513]))


@fuzz
@given(
    SIDE,
    SIDE,
    SIDE,
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from(["new", "bias", "kept"]),
    st.integers(1, 3),
)
def test_products_of_any_shape_stay_within_their_memory(
    rows: int, columns: int, inner: int, transposed: tuple[bool, bool], start: str, threads: int
) -> None:
    """Each matrix fills its memory to the last number; what lies beside the result stays as it was."""
    made = torch.Generator().manual_seed(rows + 1000 * columns)

    def factor(first: int, second: int, flip: bool) -> Tensor:
        return (
            torch.randn(second, first, generator=made).t()
            if flip
            else torch.randn(first, second, generator=made)
        )

    left, right = factor(rows, inner, transposed[0]), factor(inner, columns, transposed[1])
    bias, wide = torch.randn(columns, generator=made), torch.full((rows, columns + 3), 7.0)
    out = wide[:, 1 : columns + 1]
    native.cpu.product(
        rows=rows, columns=columns, inner=inner, left=(left.data_ptr(), *left.stride()),
        right=(right.data_ptr(), *right.stride()), out=out.data_ptr(), out_row=wide.stride(0),
        bias=bias.data_ptr() if start == "bias" else 0, scale=0.5, keep=start == "kept", threads=threads,
    )  # fmt: skip
    exact = 0.5 * (left.double() @ right.double())
    exact += {"new": torch.zeros(columns), "bias": bias, "kept": torch.full((columns,), 7.0)}[start]
    torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-3)
    assert (wide[:, 0] == 7.0).all() and (wide[:, columns + 1 :] == 7.0).all()

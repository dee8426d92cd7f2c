"""N-gram document frequencies of a reference corpus: what CIDEr-D weighs n-grams with.

A document is the set of references of one source; the document frequency df(g) of an n-gram is the number of
documents in which it occurs, and its weight is `log D - log max(1, df(g))` with D documents, so an n-gram that the
corpus does not hold weighs log D. Counting and look-up compare n-grams token by token: they are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from os import PathLike

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import check_integer
from softbellman.core.launch import CODES
from softbellman.payoffs.batches import (
    LARGEST_ORDER,
    check_id,
    check_lengths,
    check_tokens,
    rows_of_tokens,
    token_field,
)

_FORMAT = "softbellman document frequencies 1"


class DocumentFrequencies:
    """In how many of the documents of a corpus each n-gram occurs.

    Made by `from_references`, `from_batches` or `load`, immutable, and on one device: `to` gives a copy elsewhere.

    Args:
        ngrams: for each order n = 1, 2, ... the n-grams, int64 `[M_n, n]` on the CPU. With an n-gram its shorter
            beginnings and its last token must be there.
        counts: for each order their document frequencies, int64 `[M_n]`.
        documents: how many documents there are.

    Raises:
        TypeError, ValueError: an argument of the wrong type or shape, or n-grams that no corpus has.

    Example:
        >>> frequencies = DocumentFrequencies.from_references(torch.tensor([[5, 6], [5, 7]]))
        >>> frequencies.documents, frequencies.count([5]), frequencies.count([5, 7]), frequencies.count([8])
        (2, 2, 1, 0)
    """

    def __init__(self, ngrams: Sequence[Tensor], counts: Sequence[Tensor], documents: int) -> None:
        check_integer("documents", documents, 1, 2**53 - 1)
        if not 1 <= len(ngrams) <= LARGEST_ORDER or len(counts) != len(ngrams):
            raise ValueError(
                f"ngrams and counts must hold 1 to {LARGEST_ORDER} orders each, got {len(ngrams)} and {len(counts)}"
            )
        for order, (rows, numbers) in enumerate(zip(ngrams, counts, strict=True), start=1):
            for name, tensor, shape in (
                ("ngrams", rows, (len(rows), order)),
                ("counts", numbers, (len(rows),)),
            ):
                if tensor.dtype != torch.int64 or tensor.device.type != "cpu":
                    raise TypeError(f"{name} must be int64 on the CPU, got {tensor.dtype} on {tensor.device}")
                if tensor.shape != shape:
                    raise ValueError(
                        f"{name} of order {order} must have shape {shape}, got {tuple(tensor.shape)}"
                    )
        self.ngrams = tuple(rows.contiguous() for rows in ngrams)
        self.counts = tuple(numbers.contiguous() for numbers in counts)
        self.documents, self.max_order = documents, len(ngrams)
        self.log_documents = math.log(documents)
        sizes = [len(rows) for rows in self.ngrams]
        bits = [native.cpu.document_table_bits(size) for size in (sizes[0], sum(sizes[1:]))]
        # slots of (key, bits of the float64 weight): DocumentSlot in csrc/payoffs/cider.h
        self._tokens, self._longer = (torch.empty((2**bit, 2), dtype=torch.int64) for bit in bits)
        for order, (rows, numbers) in enumerate(zip(self.ngrams, self.counts, strict=True), start=1):
            row = native.cpu.fill_document_table(
                token_slots=_array(self._tokens),
                ngram_slots=_array(self._longer),
                unseen=self.log_documents,
                documents=documents,
                order=order,
                ngrams=_array(rows),
                counts=_array(numbers),
            )
            if row >= 0:
                raise ValueError(
                    f"ngrams of order {order} must be different, hold known shorter ones and have counts between 1 and "
                    f"{documents}, got {rows[row].tolist()} with {int(numbers[row])}"
                )

    @property
    def weigh_nothing(self) -> bool:
        """Whether every n-gram is in all documents, as with one document alone: then all weigh 0, and so CIDEr-D is."""
        return all(bool((counts == self.documents).all()) for counts in self.counts)

    @classmethod
    def from_references(
        cls,
        references: Tensor,
        *,
        reference_lengths: Tensor | None = None,
        max_order: int = 4,
        eos_id: int | None = None,
        unmatched_id: int | None = None,
    ) -> DocumentFrequencies:
        """Count the n-grams of a corpus held in one tensor.

        Args:
            references: int64 tokens `[B, L]` or `[B, R, L]`; each of the B sources is a document. CUDA tensors are
                copied to the CPU.
            reference_lengths: tokens that count, `[B]` or `[B, R]`, 0 where a reference is absent; None: all L.
            max_order: longest n-gram, 1 to 8.
            eos_id: the token that ends a reference; neither it nor what follows is read.
            unmatched_id: a token, such as UNK; n-grams that hold it are not counted.

        Raises:
            TypeError, ValueError: an argument of the wrong type, shape or range.
        """
        return cls.from_batches(
            [(references, reference_lengths)], max_order=max_order, eos_id=eos_id, unmatched_id=unmatched_id
        )

    @classmethod
    def from_batches(
        cls,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        *,
        max_order: int = 4,
        eos_id: int | None = None,
        unmatched_id: int | None = None,
    ) -> DocumentFrequencies:
        """Count the n-grams of a corpus that comes in pairs (references, reference_lengths or None).

        Memory grows with the different n-grams, not with the corpus. Shapes and the other arguments are those of
        `from_references`; the batches may differ in R and L. No source may come in two batches.
        """
        check_integer("max_order", max_order, 1, LARGEST_ORDER)
        check_id("eos_id", eos_id)
        check_id("unmatched_id", unmatched_id)
        counter = None
        for references, lengths in batches:
            check_tokens("references", references, (2, 3))
            counted = check_lengths("reference_lengths", lengths, "references", references)
            rows = rows_of_tokens(references.cpu())
            numbers = None if counted is None else counted.cpu().contiguous()
            counter = counter or native.cpu.DocumentCounter(max_order)
            counter.add(
                references=token_field("references", rows, rows),
                reference_lengths=None if numbers is None else _array(numbers),
                eos_id=eos_id,
                unmatched_id=unmatched_id,
            )
        if counter is None or counter.documents() == 0:
            raise ValueError("references must hold at least one document, got none")
        ngrams, counts = [], []
        for order in range(1, max_order + 1):
            size = counter.size(order)
            ngrams.append(torch.empty((size, order), dtype=torch.int64))
            counts.append(torch.empty(size, dtype=torch.int64))
            counter.write(order=order, ngrams=_array(ngrams[-1]), counts=_array(counts[-1]))
        return cls(ngrams, counts, counter.documents())

    def count(self, ngram: Sequence[int]) -> int:
        """The document frequency of one n-gram of at most `max_order` tokens, 0 where the corpus has none."""
        if not 1 <= len(ngram) <= self.max_order:
            raise ValueError(f"ngram must have 1 to {self.max_order} tokens, got {len(ngram)}")
        found = (self.ngrams[len(ngram) - 1] == torch.tensor(list(ngram))).all(-1)
        return int(self.counts[len(ngram) - 1][found].sum())

    @property
    def device(self) -> torch.device:
        """Where the n-grams are looked up: the device of the hypotheses to be scored."""
        return self._tokens.device

    def to(self, device: str | torch.device) -> DocumentFrequencies:
        """These frequencies, looked up on `device`; itself where they are there already."""
        tokens = self._tokens.to(device)
        if tokens is self._tokens:
            return self
        copy = object.__new__(DocumentFrequencies)
        copy.__dict__.update(self.__dict__)
        copy._tokens, copy._longer = tokens, self._longer.to(device)
        return copy

    def table(self) -> tuple[Tensor, Tensor]:
        """What the kernels look up: slots of the tokens and of the longer n-grams (csrc/payoffs/cider.h)."""
        return self._tokens, self._longer

    def save(self, path: str | PathLike[str]) -> None:
        """Write a safetensors file: `ngrams_n` `[M_n, n]` and `counts_n` `[M_n]` for each order, and `documents`."""
        from safetensors.torch import save_file

        tensors = {"documents": torch.tensor([self.documents])}
        for order, (rows, numbers) in enumerate(zip(self.ngrams, self.counts, strict=True), start=1):
            tensors |= {f"ngrams_{order}": rows, f"counts_{order}": numbers}
        save_file(tensors, path, metadata={"format": _FORMAT})

    @classmethod
    def load(cls, path: str | PathLike[str], device: str | torch.device = "cpu") -> DocumentFrequencies:
        """Read what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"{path} does not hold document frequencies")
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from None
        orders = range(1, len(tensors) // 2 + 1)
        expected = {"documents", *(f"{part}_{n}" for part in ("ngrams", "counts") for n in orders)}
        if set(tensors) != expected:
            raise ValueError(f"{path} does not hold n-grams and counts of the orders 1, 2, ...")
        ngrams, counts = ([tensors[f"{part}_{n}"] for n in orders] for part in ("ngrams", "counts"))
        return cls(ngrams, counts, int(tensors["documents"])).to(device)


def _array(tensor: Tensor) -> tuple[int, int, int]:
    """A contiguous tensor as a field of the native core; the caller holds it."""
    return tensor.data_ptr(), tensor.numel(), CODES[tensor.dtype]

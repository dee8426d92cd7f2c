"""Document frequencies of n-grams in a Python dictionary: the oracle of `softbellman.DocumentFrequencies`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from softbellman.reference.bleu import _ngrams, _sequences


class DocumentFrequencies:
    """In how many of `documents` documents each n-gram (a tuple of tokens) of 1 to `max_order` tokens occurs."""

    def __init__(self, counts: Counter[tuple[int, ...]], documents: int, max_order: int = 4) -> None:
        self.counts, self.documents, self.max_order = counts, documents, max_order

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
        """Count the documents, one a source, of references `[B, L]` or `[B, R, L]`."""
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
        """Count the documents of pairs (references, reference_lengths or None)."""
        counts: Counter[tuple[int, ...]] = Counter()
        documents = 0
        for references, lengths in batches:
            for document in _sequences(references, lengths, eos_id):
                held = {g for r in document for n in range(1, max_order + 1) for g in _ngrams(r, n)}
                counts.update(ngram for ngram in held if unmatched_id not in ngram)
                documents += 1
        return cls(counts, documents, max_order)

    def count(self, ngram: Sequence[int]) -> int:
        """The document frequency of one n-gram, 0 where the corpus has none."""
        return self.counts[tuple(ngram)]

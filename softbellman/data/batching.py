"""Batches: padded tensors of sentences of similar length, in an order that (seed, epoch) alone decides.

Notation: B pairs in the batch, S source steps (EOS included), T target steps (EOS included), R references, L
the longest reference; of images: G grid positions, F feature width.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from softbellman.data.corpus import pad_rows
from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.payoffs.batches import pad_references

Item = TypeVar("Item")


class Examples(Protocol):
    """What batches are cut from: `Corpus`, `CaptionCorpus`, or anything with these."""

    @property
    def references(self) -> list[list[list[int]]]:
        """The token ids of each source's references, without BOS and EOS."""
        ...

    @property
    def special(self) -> SpecialTokens:
        """The reserved ids of the references' vocabulary."""
        ...

    def __len__(self) -> int: ...

    def source_length(self, index: int) -> int:
        """By what a source counts when examples are sorted and batches measured; 0: it does not."""
        ...

    def source_batch(self, indices: Sequence[int]) -> Tensor:
        """The sources as one tensor, batch first."""
        ...


@dataclass(frozen=True)
class Batch:
    """One batch, batch first: int64 tensors padded with PAD; of images the source is float32.

    Attributes:
        source: [B, S], tokens and EOS; of images their features, [B, F] or [B, G, F].
        target: [B, T + 1], BOS, tokens and EOS.
        references: [B, R, L], tokens alone. Sentences with fewer than R references have rows of PAD.
        reference_lengths: [B, R], tokens of each reference; 0 = reference absent.
        index: [B], the sentences' positions in the corpus.
        rows: [M], flat indices of the real positions of `labels`; found where not given, at best before the batch goes to a
            device, which would have to be waited for.
        first: number of row 0 in the batch that these rows were cut from, so that a row draws the same in any part.
        share: of that batch's rows; 0: these rows do not count.
        special: the reserved ids of the target's vocabulary.
        critic_source: what a critic or an oracle reads, [B, C]: the tokens of the target and EOS, or those of all references
            one after another, the target first. None: `labels`.
    """

    source: Tensor
    target: Tensor
    references: Tensor
    reference_lengths: Tensor
    index: Tensor
    rows: Tensor = None  # type: ignore[assignment]  # a tensor once made
    first: int = 0
    share: float = 1.0
    special: SpecialTokens = RESERVED
    critic_source: Tensor = None  # type: ignore[assignment]  # a tensor once made

    def __post_init__(self) -> None:
        if self.critic_source is None:
            object.__setattr__(self, "critic_source", self.labels)
        if self.rows is None:
            object.__setattr__(self, "rows", self.mask.flatten().nonzero().squeeze(1))

    def __len__(self) -> int:
        return self.source.shape[0]

    @property
    def prefix(self) -> Tensor:
        """What the decoder reads, [B, T]: BOS and the tokens."""
        return self.target[:, :-1]

    @property
    def labels(self) -> Tensor:
        """What the decoder predicts, [B, T]: the tokens and EOS."""
        return self.target[:, 1:]

    @property
    def mask(self) -> Tensor:
        """True at the real positions of `labels`, [B, T]."""
        return self.labels != self.special.pad

    def rows_between(self, start: int, end: int) -> Batch:
        """The rows from `start` to before `end` as a batch of their own, which draw what they draw in this one."""
        part = slice(start, end)
        return Batch(
            source=self.source[part],
            target=self.target[part],
            references=self.references[part],
            reference_lengths=self.reference_lengths[part],
            index=self.index[part],
            first=self.first + start,
            share=self.share,
            special=self.special,
            critic_source=self.critic_source[part],
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; a GPU copies on while the caller goes on."""
        onto_gpu = torch.device(device).type == "cuda"

        def moved(value: Tensor | float | SpecialTokens) -> Any:
            if not isinstance(value, Tensor):
                return value
            if onto_gpu and not value.is_cuda:
                return value.pin_memory().to(device, non_blocking=True)
            return value.to(device)

        return Batch(**{field.name: moved(getattr(self, field.name)) for field in fields(self)})


def collate(
    corpus: Examples,
    pairs: Sequence[tuple[int, int]],
    *,
    references: Literal["all", "one"] = "all",
    reads: Literal["target", "references"] = "target",
) -> Batch:
    """Pad pairs (sentence, number of its reference) of a corpus to one batch.

    Args:
        corpus: where the sentences are.
        pairs: the B pairs.
        references: what `Batch.references` holds: "all" of the sentence's references, or the "one" of the
            pair.
        reads: what `Batch.critic_source` holds: the "target", or all the "references" of its sentence.
    """
    special = corpus.special
    targets = [[special.bos, *corpus.references[i][k], special.eos] for i, k in pairs]
    if references == "all":
        groups = [corpus.references[i] for i, _ in pairs]
    else:
        groups = [[corpus.references[i][k]] for i, k in pairs]
    padded, lengths = pad_references(groups, special.pad)
    return Batch(
        source=corpus.source_batch([i for i, _ in pairs]),
        target=pad_rows(targets, special.pad),
        references=padded,
        reference_lengths=lengths,
        index=torch.tensor([i for i, _ in pairs], dtype=torch.int64),
        special=special,
        critic_source=_one_after_another(corpus, pairs) if reads == "references" else None,  # type: ignore[arg-type]
    )


def _one_after_another(corpus: Examples, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Every reference of each pair's sentence, each ended by EOS, that of the pair first: [B, C]."""
    rows = []
    for i, k in pairs:
        group = corpus.references[i]
        ordered = [group[k], *(other for place, other in enumerate(group) if place != k)]
        rows.append([token for reference in ordered for token in (*reference, corpus.special.eos)])
    return pad_rows(rows, corpus.special.pad)


class BatchIterator:
    """Cuts a corpus into batches of similar length.

    Shuffled: the pairs are permuted, pools of `pool_batches` batches are sorted by length and cut, then the
    batches are permuted. Not shuffled: all pairs sorted by length, longest first (memory trouble shows at once);
    `Batch.index` restores the corpus order. Either way the order is a function of (seed, epoch) alone, the
    same on every machine.

    Args:
        corpus: the sentences, or images with their captions (which are sorted by the caption's length).
        batch_size: sentences, or padded tokens, a batch (the last ones may be smaller).
        unit: "sentences"; or "tokens": rows times the longest side of the batch, EOS included, stays within
            batch_size. A pair that is longer than that by itself forms a batch alone.
        shuffle: a new order each epoch; otherwise the sorted one.
        seed: decides the shuffled order together with the epoch.
        targets: "first": each sentence is one example with its first reference; "all": each pair of a
            sentence and one of its references is an example.
        references: what the payoff compares with: "all" references of the sentence or the "one" that is the
            target.
        reads: what a critic reads: the "target" or all "references", see `Batch.critic_source`.
        pool_batches: batches (of about batch_size) sorted together; more means less padding and less
            randomness.

    Raises:
        ValueError: an empty corpus, a size below 1, or an unknown name.
    """

    def __init__(
        self,
        corpus: Examples,
        *,
        batch_size: int,
        unit: Literal["sentences", "tokens"] = "sentences",
        shuffle: bool = True,
        seed: int = 1,
        targets: Literal["first", "all"] = "first",
        references: Literal["all", "one"] = "all",
        reads: Literal["target", "references"] = "target",
        pool_batches: int = 50,
    ) -> None:
        if len(corpus) == 0:
            raise ValueError("corpus must hold at least one sentence, got none")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if pool_batches < 1:
            raise ValueError(f"pool_batches must be at least 1, got {pool_batches}")
        for name, value, allowed in (
            ("unit", unit, ("sentences", "tokens")),
            ("targets", targets, ("first", "all")),
            ("references", references, ("all", "one")),
            ("reads", reads, ("target", "references")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be {allowed[0]!r} or {allowed[1]!r}, got {value!r}")
        self.corpus = corpus
        self.batch_size = batch_size
        self.unit = unit
        self.shuffle = shuffle
        self.seed = seed
        self.references, self.reads = references, reads
        self.pool_batches = pool_batches
        self._pairs = [
            (i, k)
            for i, group in enumerate(corpus.references)
            for k in range(len(group) if targets == "all" else 1)
        ]
        # (source, target) lengths with EOS.
        self._lengths = [(corpus.source_length(i), len(corpus.references[i][k]) + 1) for i, k in self._pairs]

    @property
    def examples(self) -> int:
        """Number of examples in an epoch."""
        return len(self._pairs)

    def __len__(self) -> int:
        """Batches in epoch 0. With unit="tokens" other epochs differ a little, see `epoch_length`."""
        return self.epoch_length(0)

    def epoch_length(self, epoch: int) -> int:
        """Batches in the given epoch."""
        if self.unit == "sentences":
            return -(-len(self._pairs) // self.batch_size)
        return len(self._plan(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on: a run resumes where it stopped.

        Raises:
            ValueError: a negative epoch or start, or a start past the end of the epoch.
        """
        if epoch < 0:
            raise ValueError(f"epoch must not be negative, got {epoch}")
        plan = self._plan(epoch)
        if not 0 <= start <= len(plan):
            raise ValueError(f"start must lie in 0..{len(plan)} (the batches of epoch {epoch}), got {start}")
        return (
            collate(
                self.corpus, [self._pairs[p] for p in batch], references=self.references, reads=self.reads
            )
            for batch in plan[start:]
        )

    def _plan(self, epoch: int) -> list[list[int]]:
        """The positions in `_pairs` of every batch of the epoch."""
        if not self.shuffle:
            order = sorted(range(len(self._pairs)), key=self._descending)
            return list(self._cut(order))
        generator = random.Random(f"softbellman batches {self.seed} {epoch}")
        order = _permuted(list(range(len(self._pairs))), generator)
        plan: list[list[int]] = []
        for pool in self._pools(order):
            plan.extend(self._cut(sorted(pool, key=self._lengths.__getitem__)))
        return _permuted(plan, generator)

    def _descending(self, position: int) -> tuple[int, int]:
        source, target = self._lengths[position]
        return -source, -target

    def _pools(self, order: list[int]) -> Iterator[list[int]]:
        size = self.batch_size * self.pool_batches
        if self.unit == "tokens":
            mean = sum(map(max, self._lengths)) / len(self._lengths)
            size = max(1, int(size / mean))
        for begin in range(0, len(order), size):
            yield order[begin : begin + size]

    def _cut(self, order: list[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        width = 0
        for position in order:
            widened = max(width, *self._lengths[position])
            full = (
                len(batch) == self.batch_size
                if self.unit == "sentences"
                else bool(batch) and widened * (len(batch) + 1) > self.batch_size
            )
            if full:
                yield batch
                batch, widened = [], max(self._lengths[position])
            batch.append(position)
            width = widened
        if batch:
            yield batch


def _permuted(items: list[Item], generator: random.Random) -> list[Item]:
    """A random order that uses `random()` alone, whose sequence Python keeps the same between versions."""
    keys = [generator.random() for _ in items]
    return [items[position] for position in sorted(range(len(items)), key=keys.__getitem__)]

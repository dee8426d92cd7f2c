"""Corpus: tokenised and numbered parallel text."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.data.errors import DataError
from softbellman.data.parallel import ParallelText
from softbellman.data.tokenizers import Tokenizer, WordTokenizer
from softbellman.data.vocabulary import PAD, RESERVED, Frame, SpecialTokens, Vocabulary

logger = logging.getLogger(__name__)


class TranslationExample(NamedTuple):
    """One source with its references, as ids (no BOS, no EOS) and as text."""

    source: list[int]
    references: list[list[int]]
    source_text: str
    reference_texts: list[str]


@dataclass(frozen=True)
class Corpus:
    """N numbered sentences. Ids carry neither BOS nor EOS: batches add them.

    Attributes:
        sources: N lists of source ids.
        references: N lists of R >= 1 lists of target ids; R may differ between sentences.
        source_texts: the N source lines as they were read.
        reference_texts: the N lists of reference lines as they were read, what evaluation compares with.
        special: the reserved ids of the references' vocabulary.
        frame: what an encoder reads around a source.
    """

    sources: list[list[int]]
    references: list[list[list[int]]]
    source_texts: list[str]
    reference_texts: list[list[str]]
    special: SpecialTokens = RESERVED
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        lengths = [len(self.sources), len(self.references), len(self.source_texts), len(self.reference_texts)]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"a corpus needs equally many sources, references and texts of both, got {lengths}"
            )
        for index, (ids, texts) in enumerate(zip(self.references, self.reference_texts, strict=True)):
            if not ids or len(ids) != len(texts):
                raise ValueError(
                    f"sentence {index} needs one reference or more, each with its text, "
                    f"got {len(ids)} of ids and {len(texts)} of text"
                )

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> TranslationExample:
        return TranslationExample(
            self.sources[index], self.references[index], self.source_texts[index], self.reference_texts[index]
        )

    def __iter__(self) -> Iterator[TranslationExample]:
        return (self[index] for index in range(len(self)))

    def source_length(self, index: int) -> int:
        """Tokens of a source, EOS included."""
        return len(self.sources[index]) + self.frame.size

    def source_batch(self, indices: Sequence[int]) -> Tensor:
        """B sources with their EOS, padded: int64 [B, S]."""
        return pad_rows([self.frame.around(self.sources[index]) for index in indices], self.frame.pad)

    def fingerprint(self, digest: hashlib._Hash) -> None:
        """Adds the token ids of both sides to a hash."""
        digest.update(repr((self.sources, self.references)).encode())

    @classmethod
    def from_text(
        cls,
        text: ParallelText,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        source_tokenizer: Tokenizer | None = None,
        target_tokenizer: Tokenizer | None = None,
    ) -> Corpus:
        """Tokenise and number parallel text; no sentence is dropped. Tokenizers default to words."""
        source_tokenizer = source_tokenizer or WordTokenizer()
        target_tokenizer = target_tokenizer or WordTokenizer()
        return cls(
            sources=[source_vocabulary.encode(source_tokenizer.tokenize(line)) for line in text.sources],
            references=[
                [target_vocabulary.encode(target_tokenizer.tokenize(line)) for line in lines]
                for lines in text.references
            ],
            source_texts=list(text.sources),
            reference_texts=[list(lines) for lines in text.references],
            special=target_vocabulary.special,
            frame=source_vocabulary.frame,
        )

    @property
    def pairs(self) -> int:
        """Sources times their references."""
        return sum(map(len, self.references))

    def drop_longer(self, max_length: int, *, name: str = "training") -> Corpus:
        """Without the pairs in which either side has more than max_length tokens. For TRAINING text only.

        Of several references only those within the limit stay; a source with none left goes. One log line
        counts.

        Raises:
            ValueError: max_length < 1.
            DataError: nothing is left.
        """
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        return self._keep(
            lambda ids: len(ids) <= max_length, f"longer than {max_length} tokens (max_length)", name
        )

    def drop_empty(self, *, name: str = "training") -> Corpus:
        """Without the pairs in which either side has no token. For TRAINING text only; see `drop_longer`."""
        return self._keep(lambda ids: len(ids) > 0, "without a token on one side", name)

    def _keep(self, wanted: Callable[[list[int]], bool], others: str, name: str) -> Corpus:
        """The pairs of which both sides are wanted; `others` says in words which are not."""
        kept: list[TranslationExample] = []
        for example in self:
            within = [k for k, reference in enumerate(example.references) if wanted(reference)]
            if not wanted(example.source) or not within:
                continue
            kept.append(
                example._replace(
                    references=[example.references[k] for k in within],
                    reference_texts=[example.reference_texts[k] for k in within],
                )
            )
        if not kept:
            raise DataError(f"all {self.pairs} pairs are {others}", path=name)
        corpus = replace(
            self,
            sources=[example.source for example in kept],
            references=[example.references for example in kept],
            source_texts=[example.source_text for example in kept],
            reference_texts=[example.reference_texts for example in kept],
        )
        logger.info("%s: dropped %d of %d pairs %s", name, self.pairs - corpus.pairs, self.pairs, others)
        return corpus


def pad_rows(rows: list[list[int]], pad: int = PAD) -> Tensor:
    """Rows of ids as one int64 tensor, padding behind the shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows], dtype=torch.int64)

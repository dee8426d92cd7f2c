"""Corpus: tokenised and numbered parallel text; Dataset: the splits and vocabularies that a run needs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.parallel import EmptyLines, ParallelText, read_parallel
from softbellman.data.tokenizers import Tokenizer, WordTokenizer
from softbellman.data.vocabulary import EOS, PAD, Vocabulary

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
    """

    sources: list[list[int]]
    references: list[list[list[int]]]
    source_texts: list[str]
    reference_texts: list[list[str]]

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
        return len(self.sources[index]) + 1

    def source_batch(self, indices: Sequence[int]) -> Tensor:
        """B sources with their EOS, padded: int64 [B, S]."""
        return pad_rows([[*self.sources[index], EOS] for index in indices])

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
        )

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
        kept: list[TranslationExample] = []
        pairs = 0
        for example in self:
            within = [k for k, reference in enumerate(example.references) if len(reference) <= max_length]
            if len(example.source) > max_length or not within:
                continue
            pairs += len(within)
            kept.append(
                example._replace(
                    references=[example.references[k] for k in within],
                    reference_texts=[example.reference_texts[k] for k in within],
                )
            )
        total = sum(map(len, self.references))
        logger.info(
            "%s: dropped %d of %d pairs longer than %d tokens", name, total - pairs, total, max_length
        )
        if not kept:
            raise DataError(f"all {total} pairs are longer than max_length = {max_length} tokens", path=name)
        return Corpus(
            sources=[example.source for example in kept],
            references=[example.references for example in kept],
            source_texts=[example.source_text for example in kept],
            reference_texts=[example.reference_texts for example in kept],
        )


def pad_rows(rows: list[list[int]]) -> Tensor:
    """Rows of ids as one int64 tensor, PAD behind the shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], dtype=torch.int64)


@dataclass(frozen=True)
class Dataset:
    """What a run needs: three corpora, two vocabularies, two tokenizers."""

    train: Corpus
    dev: Corpus
    test: Corpus
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer


def build_dataset(
    train: ParallelText,
    dev: ParallelText,
    test: ParallelText,
    *,
    min_frequency: int = 3,
    max_size: int | None = None,
    max_length: int | None = 50,
    source_tokenizer: Tokenizer | None = None,
    target_tokenizer: Tokenizer | None = None,
) -> Dataset:
    """Vocabularies from the training text (every reference of it), then the three corpora.

    Args:
        train, dev, test: the text. Only training pairs can be dropped; dev and test are kept whole.
        min_frequency, max_size: see `Vocabulary.build`; for both sides.
        max_length: training pairs with more tokens on either side are dropped; None keeps all. The
            vocabularies are counted before that.
        source_tokenizer, target_tokenizer: words by default.

    Raises:
        DataError: an empty vocabulary, or no training pair within max_length; names the file.
    """
    source_tokenizer = source_tokenizer or WordTokenizer()
    target_tokenizer = target_tokenizer or WordTokenizer()
    source_vocabulary = Vocabulary.build(
        (source_tokenizer.tokenize(line) for line in train.sources),
        min_frequency=min_frequency,
        max_size=max_size,
        origin=train.source_origin,
    )
    target_vocabulary = Vocabulary.build(
        (target_tokenizer.tokenize(line) for lines in train.references for line in lines),
        min_frequency=min_frequency,
        max_size=max_size,
        origin=train.target_origin,
    )

    def number(text: ParallelText) -> Corpus:
        return Corpus.from_text(
            text,
            source_vocabulary,
            target_vocabulary,
            source_tokenizer=source_tokenizer,
            target_tokenizer=target_tokenizer,
        )

    corpus = number(train)
    if max_length is not None:
        corpus = corpus.drop_longer(max_length, name=train.source_origin)
    return Dataset(
        train=corpus,
        dev=number(dev),
        test=number(test),
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
    )


def find_text(directory: str | Path, name: str, language: str) -> list[Path]:
    """The files of one side of a split: `name.language`, or numbered references `name.language0`, `...1`, ...

    Each may end in `.gz`. The plain file is preferred to its `.gz`, the unnumbered one to the numbered ones.

    Raises:
        MissingFileError: none of them exists; names the first choice.
    """
    wanted = Path(directory) / f"{name}.{language}"

    def existing(stem: Path) -> Path | None:
        return next((path for path in (stem, stem.with_name(stem.name + ".gz")) if path.is_file()), None)

    single = existing(wanted)
    if single is not None:
        return [single]
    numbered: list[Path] = []
    while (path := existing(wanted.with_name(f"{wanted.name}{len(numbered)}"))) is not None:
        numbered.append(path)
    if not numbered:
        raise MissingFileError("the file does not exist (nor .gz, nor numbered references)", path=wanted)
    return numbered


def load_split(
    directory: str | Path,
    name: str,
    *,
    source_language: str,
    target_language: str,
    empty_lines: EmptyLines = "error",
) -> ParallelText:
    """Read `directory/name.{source_language,target_language}`; see `find_text` and `read_parallel`."""
    source = find_text(directory, name, source_language)
    if len(source) > 1:
        raise DataError("a split has one source file, not several", path=source[1])
    return read_parallel(source[0], find_text(directory, name, target_language), empty_lines=empty_lines)


def load_dataset(
    directory: str | Path,
    *,
    source_language: str,
    target_language: str,
    train: str = "train",
    dev: str = "val",
    test: str = "test",
    min_frequency: int = 3,
    max_size: int | None = None,
    max_length: int | None = 50,
    empty_lines: EmptyLines = "error",
    source_tokenizer: Tokenizer | None = None,
    target_tokenizer: Tokenizer | None = None,
) -> Dataset:
    """Read three splits from a folder and build the dataset; see `load_split` and `build_dataset`."""
    texts = [
        load_split(
            directory,
            name,
            source_language=source_language,
            target_language=target_language,
            empty_lines=empty_lines,
        )
        for name in (train, dev, test)
    ]
    return build_dataset(
        *texts,
        min_frequency=min_frequency,
        max_size=max_size,
        max_length=max_length,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
    )

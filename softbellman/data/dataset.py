"""Dataset: the splits and vocabularies that a run needs, made of parallel text or of the files of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softbellman.data.corpus import Corpus
from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.huggingface import HuggingFaceTokenizer
from softbellman.data.left_out import LeftOut
from softbellman.data.parallel import EmptyLines, ParallelText, read_parallel
from softbellman.data.tokenizers import SentencePieceTokenizer, Tokenizer, WordTokenizer
from softbellman.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Dataset:
    """What a run needs: three corpora, two vocabularies, two tokenizers; and which training pairs are not in them."""

    train: Corpus
    dev: Corpus
    test: Corpus
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    left_out: LeftOut = field(default_factory=LeftOut)


def build_vocabulary(
    tokenizer: Tokenizer,
    lines: Iterable[str],
    *,
    min_frequency: int = 3,
    max_size: int | None = None,
    origin: str = "the given lines",
) -> Vocabulary:
    """The vocabulary of one side: all that a tokeniser of subwords has, in its order; else the frequent tokens of the lines.

    Args:
        tokenizer: of the side.
        lines: the training text.
        min_frequency, max_size: of tokens that are counted, see `Vocabulary.build`.
        origin: the file of the lines, for the error sentence.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.vocabulary
    if isinstance(tokenizer, SentencePieceTokenizer):
        return Vocabulary(tokenizer.pieces, origin=origin)
    return Vocabulary.build(
        map(tokenizer.tokenize, lines), min_frequency=min_frequency, max_size=max_size, origin=origin
    )


def build_dataset(
    train: ParallelText,
    dev: ParallelText,
    test: ParallelText,
    *,
    min_frequency: int = 3,
    max_size: int | None = None,
    max_length: int | None = 50,
    empty_lines: Literal["refuse", "skip"] = "skip",
    source_tokenizer: Tokenizer | None = None,
    target_tokenizer: Tokenizer | None = None,
) -> Dataset:
    """Vocabularies from the training text (every reference of it), then the three corpora.

    Args:
        train, dev, test: the text. Only training pairs can be dropped; dev and test are kept whole.
        min_frequency, max_size: see `build_vocabulary`; for both sides.
        max_length: training pairs with more tokens on either side are dropped; None keeps all. The
            vocabularies are counted before that.
        empty_lines: "skip" leaves out training pairs of which a tokenizer makes nothing on one side; "refuse" raises.
        source_tokenizer, target_tokenizer: words by default.

    Raises:
        DataError: an empty vocabulary, no training pair within max_length, or a refused one; names the file.
    """
    source_tokenizer = source_tokenizer or WordTokenizer()
    target_tokenizer = target_tokenizer or WordTokenizer()
    source_vocabulary = build_vocabulary(
        source_tokenizer,
        train.sources,
        min_frequency=min_frequency,
        max_size=max_size,
        origin=train.source_origin,
    )
    target_vocabulary = build_vocabulary(
        target_tokenizer,
        (line for lines in train.references for line in lines),
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

    whole = number(train)
    filled = whole.drop_empty(name=train.source_origin)
    if empty_lines == "refuse" and filled.pairs < whole.pairs:
        text = next(example for example in whole if not (example.source and all(example.references)))
        message = f"a side of the pair {text.source_text!r}, {text.reference_texts} holds no token"
        raise DataError(message, path=train.source_origin)
    kept = filled if max_length is None else filled.drop_longer(max_length, name=train.source_origin)
    return Dataset(
        train=kept,
        dev=number(dev),
        test=number(test),
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        left_out=LeftOut(
            empty=train.skipped + whole.pairs - filled.pairs,
            longer=filled.pairs - kept.pairs,
            max_length=max_length,
        ),
    )


def side_files(wanted: Path) -> list[Path]:
    """What is there with a name of one side of a split, in alphabetical order: numbered or not, ending in `.gz` or not.

    Args:
        wanted: `folder/name.language`.
    """
    named = re.compile(rf"{re.escape(wanted.name)}[0-9]*(\.gz)?")
    folder = wanted.parent
    return sorted(path for path in folder.iterdir() if named.fullmatch(path.name)) if folder.is_dir() else []


def find_text(directory: str | Path, name: str, language: str, *, other: str = "") -> list[Path]:
    """The files of one side of a split: `name.language`, or numbered references `name.language0`, `...1`, ...

    Each may end in `.gz`. The plain file is preferred to its `.gz`.

    Args:
        directory: holds them.
        name: of the split.
        language: ending of the side.
        other: ending of the other side; its files are no numbered ones of this side (`fr2` of `fr`).

    Raises:
        MissingFileError: none of them exists; names the first choice.
        DataError: the first choice is no file, numbered files stand beside it, or the numbers do not go up from 0.
    """
    wanted = Path(directory) / f"{name}.{language}"
    others = set(side_files(wanted.with_name(f"{name}.{other}"))) if len(other) > len(language) else set()
    found: dict[str, Path] = {}
    for path in side_files(wanted):  # the plain file before its .gz
        if path.is_file() and path not in others:
            found.setdefault(path.name.removesuffix(".gz"), path)
    names = ", ".join(path.name for path in found.values())
    single = found.pop(wanted.name, None)
    if single is not None and found:
        raise DataError(
            f"the file stands beside numbered ones ({names}); keep either it or them, from 0 on", path=single
        )
    if single is not None:
        return [single]
    if wanted.exists():
        raise DataError("is no regular file", path=wanted)
    if not found:
        raise MissingFileError("the file does not exist (nor .gz, nor numbered references)", path=wanted)
    numbered = [f"{wanted.name}{number}" for number in range(len(found))]
    missing = next((path for path in numbered if path not in found), None)
    if missing is not None:
        raise DataError(
            f"the references are numbered from 0 without a gap, but there are {names}",
            path=wanted.with_name(missing),
        )
    return [found[path] for path in numbered]


def load_split(
    directory: str | Path,
    name: str,
    *,
    source_language: str,
    target_language: str,
    empty_lines: EmptyLines = "refuse",
) -> ParallelText:
    """Read `directory/name.{source_language,target_language}`; see `find_text` and `read_parallel`."""
    source = find_text(directory, name, source_language, other=target_language)
    if len(source) > 1:
        raise DataError("a split has one source file, not several", path=source[1])
    target = find_text(directory, name, target_language, other=source_language)
    return read_parallel(source[0], target, empty_lines=empty_lines)


def load_splits(
    directory: str | Path,
    *,
    source_language: str,
    target_language: str,
    train: str = "train",
    dev: str = "val",
    test: str = "test",
    empty_lines: Literal["refuse", "skip"] = "skip",
) -> tuple[ParallelText, ParallelText, ParallelText]:
    """Read the three splits of a folder; see `load_split`.

    Args:
        directory: holds the files.
        source_language, target_language: their endings.
        train, dev, test: names of the splits.
        empty_lines: of training, see `read_parallel`. Validation and test text keep all lines.
    """
    languages = {"source_language": source_language, "target_language": target_language}
    return (
        load_split(directory, train, **languages, empty_lines=empty_lines),
        load_split(directory, dev, **languages, empty_lines="keep"),
        load_split(directory, test, **languages, empty_lines="keep"),
    )


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
    empty_lines: Literal["refuse", "skip"] = "skip",
    source_tokenizer: Tokenizer | None = None,
    target_tokenizer: Tokenizer | None = None,
) -> Dataset:
    """Read three splits from a folder and build the dataset; see `load_splits` and `build_dataset`."""
    texts = load_splits(
        directory,
        source_language=source_language,
        target_language=target_language,
        train=train,
        dev=dev,
        test=test,
        empty_lines=empty_lines,
    )
    return build_dataset(
        *texts,
        min_frequency=min_frequency,
        max_size=max_size,
        max_length=max_length,
        empty_lines=empty_lines,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
    )

"""Vocabulary: the mapping between tokens and ids, with the four reserved ids all models share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from softbellman.core.files import write_atomically
from softbellman.data.errors import DataError
from softbellman.data.text import read_json

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that stand for no word, of one vocabulary.

    Attributes:
        pad: behind the end of shorter sequences; never a label.
        unknown: of words that the vocabulary does not hold; None where there are none.
        bos: what the decoder reads first. It may be `pad`, as in Marian and T5, or `eos`.
        eos: ends a sequence.
        others: further ids that are never produced, such as masks, language codes and unused rows of an embedding.

    Raises:
        ValueError: a negative id, or `pad` and `eos` are one, so that an end could not be told from padding.
    """

    pad: int = 0
    unknown: int | None = 1
    bos: int = 2
    eos: int = 3
    others: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        lowest = min(self.pad, self.bos, self.eos, 0 if self.unknown is None else self.unknown, *self.others)
        if lowest < 0:
            raise ValueError(f"ids of special tokens must be at least 0, got {lowest}")
        if self.pad == self.eos:
            raise ValueError(f"pad and eos must be different ids, got {self.pad} for both")

    @property
    def named(self) -> tuple[int, ...]:
        """The ids that have a name here, each once, ascending."""
        found = {self.pad, self.bos, self.eos}
        return tuple(sorted(found if self.unknown is None else found | {self.unknown}))

    @property
    def never(self) -> tuple[int, ...]:
        """The ids that are never produced, ascending: all but `eos`."""
        return tuple(sorted({*self.named, *self.others} - {self.eos}))

    @property
    def unspoken(self) -> tuple[int, ...]:
        """`never` without the unknown word, ascending."""
        return tuple(token for token in self.never if token != self.unknown)


RESERVED = SpecialTokens(pad=PAD, unknown=UNK, bos=BOS, eos=EOS)
"""The ids of this package's own vocabularies."""


@dataclass(frozen=True)
class Frame:
    """What an encoder reads around the ids of a sentence: those before and after it, and the padding behind it."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = (EOS,)
    pad: int = PAD

    def around(self, ids: Sequence[int]) -> list[int]:
        """The ids with what stands around them."""
        return [*self.before, *ids, *self.after]

    @property
    def size(self) -> int:
        """How many ids stand around a sentence."""
        return len(self.before) + len(self.after)


_FORMAT = "softbellman-vocabulary"


def why_no_token(token: str) -> str | None:
    """Why a text cannot be an ordinary token; None where it can. What is written is one line of UTF-8 for each sentence."""
    if token == "":
        return "it is empty"
    if token in SPECIAL_TOKENS:
        return "it is reserved"
    if "\n" in token or "\r" in token:
        return "it holds a line break"
    if any("\ud800" <= character <= "\udfff" for character in token):
        return "it holds half of a character, which is no UTF-8"
    return None


class Vocabulary:
    """Tokens and their ids. Ids 0..3 are PAD, UNK, BOS, EOS; the given tokens follow in their order.

    `of_ids` makes the vocabulary of a tokeniser that has reserved ids of its own.

    A text token spelt like a reserved one (`<eos>` in a corpus, say) is an unknown word, never the reserved
    id.

    Args:
        tokens: the ordinary tokens, distinct; see `why_no_token`.
        origin: where the tokens come from (a file name), for the error sentences.

    Raises:
        DataError: no token at all, or a token that is empty, reserved, no text of one line, or there twice.
    """

    def __init__(self, tokens: Sequence[str], *, origin: str = "the given tokens") -> None:
        if isinstance(tokens, str):
            raise TypeError("tokens must be a sequence of strings, got one string")
        if len(tokens) == 0:
            raise DataError("the vocabulary is empty", path=origin)
        self.special, self.frame = RESERVED, Frame()
        self._tokens = (*SPECIAL_TOKENS, *tokens)
        self._ids: dict[str, int] = {}
        for index, token in enumerate(tokens, start=len(SPECIAL_TOKENS)):
            if not isinstance(token, str):
                raise TypeError(f"tokens must be strings, got {type(token).__name__} at position {index}")
            if reason := why_no_token(token):
                raise DataError(
                    f"{token!r} cannot be an ordinary token of a vocabulary: {reason}", path=origin
                )
            if token in self._ids:
                raise DataError(f"the token {token!r} is in the vocabulary twice", path=origin)
            self._ids[token] = index

    @classmethod
    def of_ids(
        cls, tokens: Sequence[str], *, special: SpecialTokens, frame: Frame, origin: str = "the given tokens"
    ) -> Vocabulary:
        """A vocabulary of tokens in the order of their ids, the reserved ones among them.

        Args:
            tokens: by id, distinct.
            special: the reserved ids.
            frame: what an encoder reads around a sentence.
            origin: where the tokens come from, for the error sentences.

        Raises:
            DataError: a token is there twice, or a reserved id is outside the vocabulary.
        """
        made = cls.__new__(cls)
        made.special, made.frame, made._tokens = special, frame, tuple(tokens)
        highest = max(*special.named, *special.others, *frame.before, *frame.after)
        if highest >= len(tokens):
            raise DataError(
                f"a reserved id is {highest}, outside the vocabulary of {len(tokens)}", path=origin
            )
        reserved = {*special.named, *special.others}
        made._ids = {token: index for index, token in enumerate(tokens) if index not in reserved}
        if len(set(tokens)) < len(tokens):
            twice = next(token for token, count in Counter(tokens).items() if count > 1)
            raise DataError(f"the token {twice!r} is in the vocabulary twice", path=origin)
        return made

    @classmethod
    def build(
        cls,
        token_lists: Iterable[Sequence[str]],
        *,
        min_frequency: int = 3,
        max_size: int | None = None,
        origin: str = "the given tokens",
    ) -> Vocabulary:
        """Count tokens and keep the frequent ones, the most frequent first, equal counts in code point order.

        Args:
            token_lists: the tokenised sentences.
            min_frequency: a token must occur at least this often.
            max_size: at most this many ids in all, the four reserved ones included; None for no limit.
            origin: the file the sentences come from, for the error sentence.

        Raises:
            ValueError: min_frequency < 1 or max_size < 5.
            DataError: nothing is left; the sentence names `origin`.
        """
        if min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
        if max_size is not None and max_size <= len(SPECIAL_TOKENS):
            raise ValueError(f"max_size must exceed the {len(SPECIAL_TOKENS)} reserved ids, got {max_size}")
        counts: Counter[str] = Counter()
        for tokens in token_lists:
            counts.update(tokens)
        kept = [
            token for token, count in counts.items() if count >= min_frequency and token not in SPECIAL_TOKENS
        ]
        if not kept:
            raise DataError(
                f"the vocabulary is empty: none of {len(counts)} distinct tokens "
                f"occurs {min_frequency} times or more",
                path=origin,
            )
        kept.sort(key=lambda token: (-counts[token], token))
        if max_size is not None:
            kept = kept[: max_size - len(SPECIAL_TOKENS)]
        return cls(kept, origin=origin)

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        return self._tokens, self.special, self.frame

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens by id, the reserved ones first."""
        return self._tokens

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Ids of the tokens; unknown ones become UNK, or are left out where there is none. Neither BOS nor EOS is added."""
        if isinstance(tokens, str):
            raise TypeError("tokens must be a sequence of strings, got one string: tokenize it first")
        found = (self._ids.get(token, self.special.unknown) for token in tokens)
        return [index for index in found if index is not None]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of the ids up to the first EOS. PAD, BOS and the like are left out, UNK is shown as `<unk>`.

        Raises:
            ValueError: an id outside 0..len-1.
        """
        tokens, silent = [], set(self.special.unspoken)
        for index in map(int, ids):
            if not 0 <= index < len(self._tokens):
                raise ValueError(f"ids must lie in 0..{len(self._tokens) - 1}, got {index}")
            if index == self.special.eos:
                break
            if index not in silent:
                tokens.append(self._tokens[index])
        return tokens

    def unknown_rate(self, token_lists: Iterable[Sequence[str]]) -> float:
        """The share of the tokens that this vocabulary does not hold; 0 when there is no token."""
        total = unknown = 0
        for tokens in token_lists:
            total += len(tokens)
            unknown += sum(token not in self._ids for token in tokens)
        return unknown / total if total else 0.0

    def to_json(self, path: str | Path) -> None:
        """Write the vocabulary as JSON, atomically."""
        record: dict[str, object]
        if (self.special, self.frame) == (RESERVED, Frame()):
            record = {"format": _FORMAT, "version": 1, "tokens": self._tokens[len(SPECIAL_TOKENS) :]}
        else:
            reserved = {"special": asdict(self.special), "frame": asdict(self.frame)}
            record = {"format": _FORMAT, "version": 2, "tokens": self._tokens, **reserved}
        write_atomically(Path(path), (json.dumps(record, ensure_ascii=False, indent=0) + "\n").encode())

    @classmethod
    def from_json(cls, path: str | Path) -> Vocabulary:
        """Read what `to_json` wrote.

        Raises:
            MissingFileError: there is no such file.
            DataError: the file is not such a JSON file, or its token list is not usable; names the file.
        """
        record = read_json(path)
        version = record.get("version") if isinstance(record, dict) else None
        if not isinstance(record, dict) or record.get("format") != _FORMAT or version not in (1, 2):
            raise DataError("is not a vocabulary file of this package (version 1 or 2)", path=path)
        tokens = record.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError("its 'tokens' must be a list of strings", path=path)
        if version == 1:
            return cls(tokens, origin=str(path))
        try:
            special, frame = record["special"], record["frame"]
            return cls.of_ids(
                tokens,
                special=SpecialTokens(**{**special, "others": tuple(special["others"])}),
                frame=Frame(tuple(frame["before"]), tuple(frame["after"]), frame["pad"]),
                origin=str(path),
            )
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"its reserved ids cannot be read ({error})", path=path) from error

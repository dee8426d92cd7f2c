"""Codec: lines of one language to token ids and back, as one thing that a run folder keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softbellman.data.huggingface import HuggingFaceTokenizer
from softbellman.data.tokenizers import SentencePieceTokenizer, Tokenizer, WordTokenizer
from softbellman.data.vocabulary import Frame, SpecialTokens, Vocabulary


@dataclass(frozen=True)
class Codec:
    """A tokenizer and its vocabulary.

    Attributes:
        vocabulary: tokens to ids.
        tokenizer: lines to tokens.
    """

    vocabulary: Vocabulary
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def special(self) -> SpecialTokens:
        """The reserved ids."""
        return self.vocabulary.special

    @property
    def frame(self) -> Frame:
        """What an encoder reads around the ids of a line."""
        return self.vocabulary.frame

    def encode(self, line: str) -> list[int]:
        """Token ids of a line, without BOS and EOS."""
        return self.vocabulary.encode(self.tokenizer.tokenize(line))

    def decode(self, ids: Iterable[int]) -> str:
        """The line that token ids spell; stops at EOS, drops reserved ids but UNK as the vocabulary says.

        It is one line: a line break, which the bytes of a SentencePiece model can spell, becomes a space.
        """
        text = self.tokenizer.detokenize(self.vocabulary.decode(ids))
        return text.replace("\r", " ").replace("\n", " ")

    def save(self, folder: str | Path, name: str) -> None:
        """Write NAME.vocabulary.json, and NAME.model for SentencePiece, the folder NAME.tokenizer for transformers."""
        folder = Path(folder)
        self.vocabulary.to_json(folder / f"{name}.vocabulary.json")
        if isinstance(self.tokenizer, SentencePieceTokenizer):
            self.tokenizer.save(folder / f"{name}.model")
        elif isinstance(self.tokenizer, HuggingFaceTokenizer):
            self.tokenizer.save(folder / f"{name}.tokenizer")

    @classmethod
    def load(cls, folder: str | Path, name: str) -> Codec:
        """Read what `save` wrote."""
        folder = Path(folder)
        if (own := folder / f"{name}.tokenizer").exists():
            read = HuggingFaceTokenizer.load(own, side="source" if name == "source" else "target")
            return cls(Vocabulary.from_json(folder / f"{name}.vocabulary.json"), read)
        model = folder / f"{name}.model"
        tokenizer: Tokenizer = SentencePieceTokenizer.load(model) if model.exists() else WordTokenizer()
        return cls(Vocabulary.from_json(folder / f"{name}.vocabulary.json"), tokenizer)

"""Tokenizers: from a line of text to tokens and back. SentencePiece needs the extra `[text]`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.text import refuse_named_pipe
from softbellman.data.vocabulary import why_no_token


class Tokenizer(Protocol):
    """Two functions that undo each other up to white space."""

    def tokenize(self, line: str) -> list[str]:
        """The tokens of a line."""
        ...

    def detokenize(self, tokens: Sequence[str]) -> str:
        """The line the tokens stand for."""
        ...


class WordTokenizer:
    """Words are what white space separates: for text that is tokenised already."""

    def tokenize(self, line: str) -> list[str]:
        """The words of a line."""
        return line.split()

    def detokenize(self, tokens: Sequence[str]) -> str:
        """The words joined by single spaces."""
        return " ".join(tokens)


class SentencePieceTokenizer:
    """Subword pieces of a SentencePiece model; needs the extra `[text]`.

    Args:
        model: the serialised model (the content of a `.model` file).
        origin: its file name, for the error sentences.

    Raises:
        ImportError: the package `sentencepiece` is not installed; names the extra.
        DataError: the bytes are not a SentencePiece model.
    """

    def __init__(self, model: bytes, *, origin: str = "the given model") -> None:
        sentencepiece = _import_sentencepiece()
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            # The constructor's own `model_proto` argument treats empty bytes as "no model given".
            self._processor.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError) as error:
            raise DataError("is not a SentencePiece model", path=origin) from error
        if not model or self._processor.GetPieceSize() == 0:
            raise DataError("is not a SentencePiece model", path=origin)

    @classmethod
    def load(cls, path: str | Path) -> SentencePieceTokenizer:
        """Read a `.model` file. Raises MissingFileError or DataError naming the file."""
        _import_sentencepiece()
        refuse_named_pipe(path)
        try:
            model = Path(path).read_bytes()
        except FileNotFoundError:
            raise MissingFileError("the SentencePiece model does not exist", path=path) from None
        except OSError as error:
            raise DataError(f"the file cannot be read ({error.strerror or error})", path=path) from error
        return cls(model, origin=str(path))

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        *,
        vocabulary_size: int,
        model_type: Literal["unigram", "bpe"] = "unigram",
        character_coverage: float = 1.0,
        origin: str = "the given lines",
    ) -> SentencePieceTokenizer:
        """Train a model on lines of text.

        Args:
            lines: the training sentences (of one side, or of both for a joint model).
            vocabulary_size: number of pieces, SentencePiece's own three reserved ones included.
            model_type: "unigram" or "bpe".
            character_coverage: the share of the text's characters that get a piece of their own.
            origin: the file of the lines, for the error sentence.

        Raises:
            DataError: the text cannot give that many pieces, or is empty; names `origin`.
        """
        sentencepiece = _import_sentencepiece()
        if model_type not in ("unigram", "bpe"):
            raise ValueError(f"model_type must be 'unigram' or 'bpe', got {model_type!r}")
        writer = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.Train(
                sentence_iterator=iter(lines),
                model_writer=writer,
                vocab_size=vocabulary_size,
                model_type=model_type,
                character_coverage=character_coverage,
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else "unknown reason"
            message = f"no SentencePiece model of {vocabulary_size} pieces can be trained on it: {reason}"
            raise DataError(message, path=origin) from error
        return cls(writer.getvalue(), origin=origin)

    @property
    def pieces(self) -> list[str]:
        """All pieces a line can become, in the order of the model, without its own `<unk>`, `<s>` and `</s>`.

        A piece that a vocabulary cannot hold, such as a line break, is left out.
        """
        model = self._processor
        return [
            piece
            for index in range(model.GetPieceSize())
            if not (model.IsUnknown(index) or model.IsControl(index) or model.IsUnused(index))
            and why_no_token(piece := model.IdToPiece(index)) is None
        ]

    def save(self, path: str | Path) -> None:
        """Write the `.model` file."""
        Path(path).write_bytes(self.model)

    def tokenize(self, line: str) -> list[str]:
        """The pieces of a line."""
        return list(self._processor.EncodeAsPieces(line))

    def detokenize(self, tokens: Sequence[str]) -> str:
        """The text the pieces stand for."""
        return str(self._processor.DecodePieces(list(tokens)))


def _import_sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "SentencePiece tokenizers need the extra [text]: pip install 'softbellman[text]'"
        ) from error
    return sentencepiece

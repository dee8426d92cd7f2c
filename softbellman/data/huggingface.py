"""Tokenisers of Hugging Face transformers, read from a folder. They need the extra `[hf]`; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.vocabulary import Frame, SpecialTokens, Vocabulary

Side = Literal["source", "target"]

_TEXT = "a"
"""A text of which every tokeniser makes something: what stands around it is what stands around every text."""


class HuggingFaceTokenizer:
    """One side of a tokeniser that was written by `save_pretrained`, with its vocabulary.

    What spells a reserved token in a text is an unknown word, or nothing where the tokeniser has none.

    Args:
        tokenizer: of transformers.
        config: of the model that it belongs to, where it belongs to one: decoder start and size of the vocabulary.
        side: "source", or "target" where a tokeniser treats the two differently.
        origin: the folder, for the error sentences.

    Attributes:
        vocabulary: of all its ids, those of the model's embedding that no token has included.
        lead: what a decoder reads before `vocabulary.special.bos`: with it the model's own start. Empty in most models.

    Raises:
        DataError: it has no padding or end of its own, ends targets by more than the end, or has two vocabularies.
    """

    def __init__(
        self, tokenizer: Any, config: Any = None, *, side: Side, origin: str = "the given tokenizer"
    ) -> None:
        self.tokenizer, self.side, self._config = tokenizer, side, config
        if getattr(tokenizer, "separate_vocabs", False):
            raise DataError("has two vocabularies, of source and target; one for both is needed", path=origin)
        for name in ("pad_token_id", "eos_token_id"):
            if getattr(tokenizer, name) is None:
                raise DataError(f"the tokenizer has no {name}", path=origin)
        target = self._affixes("target")
        eos = int(tokenizer.eos_token_id)
        if target[1] != (eos,):
            raise DataError(
                f"the tokenizer ends a target by the ids {list(target[1])}, where its end {eos} alone is needed",
                path=origin,
            )
        start = (*_decoder_start(config, tokenizer), *target[0])
        self.lead = start[:-1]
        size = max(len(tokenizer), _config_size(config))
        named = {int(tokenizer.pad_token_id), eos, start[-1], tokenizer.unk_token_id}
        spelt = [
            token if token is not None else ""
            for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        ]
        spelt += [""] * (size - len(spelt))
        seen: set[str] = set()
        holes = set()
        for index, token in enumerate(spelt):
            if not isinstance(token, str) or token == "" or token in seen:
                spelt[index] = f"<unused {index}>"
                holes.add(index)
            seen.add(spelt[index])
        special = SpecialTokens(
            pad=int(tokenizer.pad_token_id),
            unknown=None if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id),
            bos=start[-1],
            eos=eos,
            others=tuple(sorted(({*tokenizer.all_special_ids, *_added(tokenizer)} | holes) - named)),
        )
        before, after = self._affixes("source")
        frame = Frame(before, after, special.pad)
        self.vocabulary = Vocabulary.of_ids(spelt, special=special, frame=frame, origin=origin)
        self._ids = {token: index for index, token in enumerate(spelt)}

    @classmethod
    def load(cls, folder: str | Path, *, side: Side) -> HuggingFaceTokenizer:
        """Read what `save_pretrained` of a tokeniser wrote, with the model's `config.json` where it is there.

        Raises:
            ImportError: transformers is not installed; names the extra.
            MissingFileError, DataError: no such folder, or no tokeniser in it; names it.
        """
        transformers = import_transformers()
        if not Path(folder).is_dir():
            raise MissingFileError("the folder of the tokenizer does not exist", path=folder)
        try:
            config = read_config(folder)
            known = {} if config is None else {"config": config}
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, **known
            )
        except Exception as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"holds no tokenizer of transformers that can be read ({reason})", path=folder
            ) from error
        return cls(tokenizer, config, side=side, origin=str(folder))

    def save(self, folder: str | Path) -> None:
        """Write the tokeniser, and the model's configuration, as `load` reads them."""
        self.tokenizer.save_pretrained(str(folder))
        if self._config is not None:
            self._config.save_pretrained(str(folder))

    def tokenize(self, line: str) -> list[str]:
        """The tokens of a line."""
        return [self.vocabulary.tokens[index] for index in self._encode(line)]

    def spell(self, line: str) -> list[str]:
        """The tokens of a line as `tokenize` gives them, but an unknown one is the text that it is read from."""
        tokens = self.tokenize(line)
        unknown = self.vocabulary.special.unknown
        if unknown is None or self.vocabulary.tokens[unknown] not in tokens:
            return tokens
        if self.tokenizer.is_fast:
            asked = {"text": line} if self.side == "source" else {"text_target": line}
            read = self.tokenizer(**asked, add_special_tokens=False, return_offsets_mapping=True)
            found = [line[start:end] for start, end in read["offset_mapping"]]
        else:
            found = self.tokenizer.tokenize(line)
        if len(found) != len(tokens):  # the tokenizer has put in, or left out, what has no text
            return tokens
        unknown_token = self.vocabulary.tokens[unknown]
        return [
            (text or token) if token == unknown_token else token
            for token, text in zip(tokens, found, strict=True)
        ]

    def detokenize(self, tokens: Sequence[str]) -> str:
        """The text the tokens stand for; what is no token of the vocabulary stands for itself."""
        ids = [self._ids.get(token) for token in tokens]
        if None in ids:
            return str(self.tokenizer.convert_tokens_to_string(list(tokens)))
        return str(self.tokenizer.decode(ids)).strip()

    def _encode(self, line: str) -> list[int]:
        special = self.vocabulary.special
        reserved, unknown = {*special.named, *special.others}, special.unknown
        found = (
            index if index not in reserved else unknown for index in self._read(line, self.side, plain=True)
        )
        return [index for index in found if index is not None]

    def _read(self, line: str, side: Side, *, plain: bool) -> list[int]:
        asked = {"text": line} if side == "source" else {"text_target": line}
        found = self.tokenizer(**asked, add_special_tokens=not plain)["input_ids"]
        return [int(index) for index in found]

    def _affixes(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the tokeniser puts before and after a text."""
        whole, plain = (self._read(_TEXT, side, plain=plain) for plain in (False, True))
        place = next(start for start in range(len(whole) + 1) if whole[start : start + len(plain)] == plain)
        return tuple(whole[:place]), tuple(whole[place + len(plain) :])


def import_transformers() -> Any:
    """The package; raises ImportError naming the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "models and tokenizers of Hugging Face need the extra [hf]: pip install 'softbellman[hf]'"
        ) from error
    return transformers


def read_config(folder: str | Path) -> Any:
    """The configuration of the model in a folder; None where there is none."""
    if not (Path(folder) / "config.json").is_file():
        return None
    return import_transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True)


def _decoder_start(config: Any, tokenizer: Any) -> tuple[int, ...]:
    """What the decoder of a model reads first; without a model the start of the tokeniser, or its padding."""
    wanted = getattr(config, "decoder_start_token_id", None)
    if wanted is None and config is not None:
        wanted = getattr(config.get_text_config(decoder=True), "decoder_start_token_id", None)
    for found in (wanted, tokenizer.bos_token_id, tokenizer.pad_token_id):
        if found is not None:
            return (int(found),)
    return ()


def _config_size(config: Any) -> int:
    """Rows of the output layer, by the configuration."""
    if config is None:
        return 0
    size = getattr(config, "vocab_size", None) or config.get_text_config(decoder=True).vocab_size
    return int(size)


def _added(tokenizer: Any) -> set[int]:
    """Ids of added tokens that the tokeniser calls special, such as masks and language codes."""
    known = tokenizer.added_tokens_decoder
    return {int(index) for index, token in known.items() if getattr(token, "special", False)}

"""What a trained actor says of sentences and images, as text with scores and attention.

Notation: B sources, T tokens of a hypothesis, S source positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from softbellman.config import nearest
from softbellman.data import Codec, HuggingFaceTokenizer
from softbellman.data.corpus import pad_rows
from softbellman.decoding import Decoding, Found, decode
from softbellman.training.settings import EvaluationSettings
from softbellman.training.trained import TrainedActor

END = "<eos>"
"""How the end is shown among the tokens."""

_OF_RUN = ("beam", "max_length", "batch_size", "length_penalty")


@dataclass(frozen=True)
class Hypothesis:
    """What an actor said.

    Attributes:
        text: the sentence or caption, one line.
        score: what it is ranked by, a log-probability (nats) over the length penalty, the coverage penalty added; of a drawn
            one its log-probability under the distribution drawn from.
        tokens: as they are spelt, `<eos>` included where it ends so.
        source: the tokens of the source, `<eos>` included; empty for an image.
        attention: `[T, S]`, how much each source position was attended to before each token, where it was asked for.
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    source: tuple[str, ...] = ()
    attention: Tensor | None = None


def decoding_of(evaluation: EvaluationSettings, **options: Any) -> Decoding:
    """How a run is decoded: its own beam, lengths and batches, other options over them; None takes the run's.

    A number of hypotheses above the run's beam widens the beam.

    Raises:
        TypeError: an option that `Decoding` has not; names the nearest.
        ValueError: see `Decoding`.
    """
    known = [field.name for field in fields(Decoding)]
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r} of decoding; nearest: {nearest(name, known)!r}")
    given = {name: value for name, value in options.items() if value is not None}
    own = {name: getattr(evaluation, name) for name in _OF_RUN}
    if "beam" not in given and isinstance(given.get("nbest"), int):
        own["beam"] = max(own["beam"], given["nbest"])
    return Decoding(**{**own, **given})


def translations(
    actor: TrainedActor, lines: Iterable[str], how: Decoding, *, first: int = 0
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """(index of the line, hypotheses) for every line that holds a token.

    A search takes similar lengths together; draws are made in the order of the lines, so that a line's do not depend on what
    stands beside it.

    Args:
        actor: one that reads text.
        lines: tokenised as the run's training text was.
        how: what is done.
        first: number of the first line that holds a token among all such lines; decides what is drawn.
    """
    codec = actor.source_codec
    assert codec is not None
    encoded = [
        (words, line, index) for index, line in enumerate(lines) if (words := codec.tokenizer.tokenize(line))
    ]
    if not how.samples:
        encoded.sort(key=lambda item: len(item[0]), reverse=True)
    special = actor.target_codec.special
    model, place = how.of_model(actor.models, special), next(actor.model.parameters()).device
    for start in range(0, len(encoded), how.batch_size):
        part = encoded[start : start + how.batch_size]
        rows = [codec.frame.around(codec.vocabulary.encode(words)) for words, _, _ in part]
        source = pad_rows(rows, codec.frame.pad).to(place)
        found = decode(model, source, how, first=first + start, special=special)
        for (words, line, index), group in zip(part, found, strict=True):
            own = codec.tokenizer
            read = _read(codec, own.spell(line) if isinstance(own, HuggingFaceTokenizer) else words)
            inner = slice(len(codec.frame.before), len(codec.frame.before) + len(words))
            yield index, [_spelt(actor.target_codec, one, read, how, inner) for one in group]


def captions(
    actor: TrainedActor, sources: Iterable[Tensor], how: Decoding, *, first: int = 0
) -> Iterator[list[Hypothesis]]:
    """The hypotheses of each image, in order.

    Args:
        actor: one that reads images.
        sources: batches of features [B, F] or [B, G, F], or of pixels [B, 3, P, P].
        how: what is done.
        first: number of the first image; decides what is drawn.

    Raises:
        ValueError: unknown words shall be replaced, and an image has none to replace them by.
    """
    if how.replace_unknown:
        raise ValueError("replace_unknown takes words of the source, and an image has none")
    special = actor.target_codec.special
    model, place = how.of_model(actor.models, special), next(actor.model.parameters()).device
    for batch in sources:
        for group in decode(model, batch.to(place), how, first=first, special=special):
            yield [_spelt(actor.target_codec, one, [], how) for one in group]
        first += len(batch)


def _read(codec: Codec, words: Sequence[str]) -> list[str]:
    """The tokens that an encoder reads of a source."""
    spelt = codec.vocabulary.tokens
    before, after = (
        [END if token == codec.special.eos else spelt[token] for token in part]
        for part in (codec.frame.before, codec.frame.after)
    )
    return [*before, *words, *after]


def _spelt(
    codec: Codec, found: Found, source: Sequence[str], how: Decoding, inner: slice = slice(0)
) -> Hypothesis:
    """A hypothesis in words; `inner` is where the source has words, without its start and end."""
    spelt = codec.vocabulary.tokens
    tokens = [END if token == codec.special.eos else spelt[token] for token in found.tokens]
    attention = None if found.attention is None else found.attention[:, : len(source) or None]
    text = codec.decode(found.tokens)
    if how.replace_unknown and attention is not None and codec.special.unknown in found.tokens:
        words = attention[:, inner].argmax(dim=1).tolist()
        tokens = [
            source[inner.start + words[step]] if token == codec.special.unknown else tokens[step]
            for step, token in enumerate(found.tokens)
        ]
        body = tokens[:-1] if found.tokens[-1] == codec.special.eos else tokens
        text = codec.tokenizer.detokenize(body).replace("\r", " ").replace("\n", " ")
    return Hypothesis(text, found.score, tuple(tokens), tuple(source), attention if how.attention else None)

"""Captioned images as a corpus: features by index, several references an image.

Notation: N images, B images of a batch, G grid positions, F feature width, P pixels a side.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from softbellman.data.captions.features import FeatureSpec, ImageFeatures, find_features
from softbellman.data.captions.pixels import ImagePixels, PixelSpec
from softbellman.data.captions.readers import CaptionFormat, read_caption_splits
from softbellman.data.captions.text import CaptionTokenizer, ImageCaptions, Punctuation
from softbellman.data.errors import DataError
from softbellman.data.left_out import LeftOut
from softbellman.data.tokenizers import Tokenizer
from softbellman.data.vocabulary import RESERVED, SpecialTokens, Vocabulary

logger = logging.getLogger(__name__)


class CaptionExample(NamedTuple):
    """One image with its captions, as ids (no BOS, no EOS) and as text."""

    image: str
    references: list[list[int]]
    reference_texts: list[str]


@dataclass(frozen=True)
class CaptionCorpus:
    """N images with their captions. Stands beside `Corpus`: batches, stages and evaluation take either.

    Attributes:
        images: N image names.
        rows: the N rows of `features`.
        references: N lists of R >= 1 lists of target ids, without BOS and EOS; R may differ between images.
        reference_texts: the captions as evaluation compares them: tokenised and joined by spaces.
        features: where `rows` point to: features of an image network, or the images themselves.
    """

    images: list[str]
    rows: list[int]
    references: list[list[list[int]]]
    reference_texts: list[list[str]]
    features: ImageFeatures | ImagePixels

    def __post_init__(self) -> None:
        lengths = [len(self.images), len(self.rows), len(self.references), len(self.reference_texts)]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"a caption corpus needs equally many images, rows, references and texts, got {lengths}"
            )
        for image, ids, texts in zip(self.images, self.references, self.reference_texts, strict=True):
            if not ids or len(ids) != len(texts):
                raise ValueError(
                    f"image {image!r} needs one caption or more, each with its text, "
                    f"got {len(ids)} of ids and {len(texts)} of text"
                )

    @property
    def special(self) -> SpecialTokens:
        """The reserved ids of the captions' vocabulary: captions have words of this package's vocabularies."""
        return RESERVED

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> CaptionExample:
        return CaptionExample(self.images[index], self.references[index], self.reference_texts[index])

    def __iter__(self) -> Iterator[CaptionExample]:
        return (self[index] for index in range(len(self)))

    @classmethod
    def from_text(
        cls,
        text: ImageCaptions,
        features: ImageFeatures | ImagePixels,
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
    ) -> CaptionCorpus:
        """Tokenise and number captions and find the images' features; nothing is dropped.

        Raises:
            DataError: an image without features or with NaN in them, a caption without any word; names the image.
        """
        words = _tokenize(text, tokenizer)
        rows = features.rows(text.images, origin=text.origin)
        features.check(rows)
        return cls(
            images=list(text.images),
            rows=rows,
            references=[[vocabulary.encode(tokens) for tokens in group] for group in words],
            reference_texts=[[" ".join(tokens) for tokens in group] for group in words],
            features=features,
        )

    def source_length(self, index: int) -> int:
        """0: an image takes no part in sorting by length."""
        return 0

    def source_batch(self, indices: Sequence[int]) -> Tensor:
        """Features of B images, float32, [B, F] or [B, G, F]; or their pixels, uint8, [B, 3, P, P]."""
        return self.features.gather([self.rows[index] for index in indices])

    def fingerprint(self, digest: hashlib._Hash) -> None:
        """Adds captions and features to a hash."""
        digest.update(repr((self.images, self.references, self.features.spec)).encode())
        for row in self.rows:
            digest.update(self.features.bytes_of(row))

    @property
    def pairs(self) -> int:
        """Images times their captions."""
        return sum(map(len, self.references))

    def drop_longer(self, max_length: int, *, name: str = "training") -> CaptionCorpus:
        """Without the captions of more than max_length tokens, and without images that have none left.

        For TRAINING text only. One log line counts.

        Raises:
            ValueError: max_length < 1.
            DataError: nothing is left.
        """
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        kept: list[tuple[int, list[int]]] = []
        for index, group in enumerate(self.references):
            within = [k for k, reference in enumerate(group) if len(reference) <= max_length]
            if within:
                kept.append((index, within))
        total, left = self.pairs, sum(len(within) for _, within in kept)
        logger.info(
            "%s: dropped %d of %d captions longer than %d tokens", name, total - left, total, max_length
        )
        if not kept:
            raise DataError(
                f"all {total} captions are longer than max_length = {max_length} tokens", path=name
            )
        return CaptionCorpus(
            images=[self.images[i] for i, _ in kept],
            rows=[self.rows[i] for i, _ in kept],
            references=[[self.references[i][k] for k in within] for i, within in kept],
            reference_texts=[[self.reference_texts[i][k] for k in within] for i, within in kept],
            features=self.features,
        )


def _tokenize(text: ImageCaptions, tokenizer: Tokenizer) -> list[list[list[str]]]:
    words = [[tokenizer.tokenize(caption) for caption in group] for group in text.captions]
    for image, group in zip(text.images, words, strict=True):
        if not all(group):
            raise DataError(f"a caption of image {image!r} holds no word", path=text.origin)
    return words


@dataclass(frozen=True)
class CaptionDataset:
    """What a run needs: three corpora, the captions' vocabulary and tokenizer, the features' (images') shape.

    `left_out` counts the training captions that are not in them.
    """

    train: CaptionCorpus
    dev: CaptionCorpus
    test: CaptionCorpus
    target_vocabulary: Vocabulary
    target_tokenizer: Tokenizer
    spec: FeatureSpec | PixelSpec
    left_out: LeftOut = field(default_factory=LeftOut)


def load_captions(
    path: str | Path,
    *,
    format: CaptionFormat = "tsv",
    features: str | Path | None = None,
    names: str | Path | None = None,
    train: str = "train",
    dev: str = "val",
    test: str = "test",
    min_frequency: int = 3,
    max_length: int | None = 50,
    punctuation: Punctuation = "keep",
    empty_lines: Literal["refuse", "skip"] = "skip",
) -> CaptionDataset:
    """Read captions and features, build the vocabulary from the training captions.

    Args:
        path, format: see `read_caption_splits`.
        features: the file of features, see `find_features`.
        names: see `ImageFeatures.open`.
        train, dev, test: names of the splits.
        min_frequency: rarer words become UNK.
        max_length: longer training captions are dropped; None keeps all. Validation and test are kept whole.
        punctuation: see `CaptionTokenizer`.
        empty_lines: "skip" leaves out captions without a word, and training images that have no other. An image of
            validation or test without any is an error, as every such caption is with "refuse".

    Raises:
        MissingFileError, DataError: bad input; the sentence names the file and the image or line.
    """
    tokenizer = CaptionTokenizer(punctuation=punctuation)
    skip = empty_lines == "skip"
    texts = read_caption_splits(path, (train, dev, test), format=format, keep_empty=skip)
    if skip:
        texts = [text.without_empty(tokenizer, drop_images=not i) for i, text in enumerate(texts)]
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    opened = ImageFeatures.open(find_features(folder, features), names)
    vocabulary = Vocabulary.build(
        (tokenizer.tokenize(caption) for group in texts[0].captions for caption in group),
        min_frequency=min_frequency,
        origin=texts[0].origin,
    )
    whole, *others = (CaptionCorpus.from_text(text, opened, vocabulary, tokenizer) for text in texts)
    kept = whole if max_length is None else whole.drop_longer(max_length, name=texts[0].origin)
    left_out = LeftOut(empty=texts[0].left_out, longer=whole.pairs - kept.pairs, max_length=max_length)
    return CaptionDataset(kept, others[0], others[1], vocabulary, tokenizer, opened.spec, left_out)

"""Captions as text: what the readers hand on, and how a caption becomes words."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from softbellman.data.errors import DataError
from softbellman.data.tokenizers import Tokenizer

Punctuation = Literal["keep", "drop"]

_DROPPED = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class ImageCaptions:
    """The images of one split with their captions as they were read.

    Attributes:
        images: N image names, distinct.
        captions: N lists of at least one caption.
        origin: name of the file, for later error sentences.
        left_out: how many captions without a word, and empty lines of its file, are not among them.
    """

    images: list[str]
    captions: list[list[str]]
    origin: str = "the given captions"
    left_out: int = 0

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise ValueError(
                f"images and captions must have the same length, got {len(self.images)} and {len(self.captions)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def without_empty(self, tokenizer: Tokenizer, *, drop_images: bool) -> ImageCaptions:
        """Without the captions that hold no word.

        Args:
            tokenizer: says what a word is.
            drop_images: an image of which no caption is left goes too, as in training; else it is an error.

        Raises:
            DataError: such an image, or nothing is left; names the file.
        """
        images, captions = [], []
        for image, group in zip(self.images, self.captions, strict=True):
            kept = [caption for caption in group if tokenizer.tokenize(caption)]
            if not kept and not drop_images:
                raise DataError(f"image {image!r} has no caption that holds a word", path=self.origin)
            if kept:
                images.append(image)
                captions.append(kept)
        if not images:
            raise DataError("no caption holds a word", path=self.origin)
        gone = sum(map(len, self.captions)) - sum(map(len, captions))
        return replace(self, images=images, captions=captions, left_out=self.left_out + gone)


class CaptionTokenizer:
    """Lowercased words, split at white space.

    Args:
        punctuation: "keep" leaves the words as they are, for captions that are tokenised already; "drop"
            deletes every ASCII punctuation character, within words too, and the words of which nothing is left
            (what Karpathy's token lists of COCO underwent).

    Example:
        >>> CaptionTokenizer(punctuation="drop").tokenize("A dog's ball , on grass .")
        ['a', 'dogs', 'ball', 'on', 'grass']
    """

    def __init__(self, *, punctuation: Punctuation = "keep") -> None:
        if punctuation not in ("keep", "drop"):
            raise ValueError(f"punctuation must be 'keep' or 'drop', got {punctuation!r}")
        self.punctuation = punctuation

    def tokenize(self, line: str) -> list[str]:
        """The words of a caption."""
        lowered = line.lower()
        return (lowered.translate(_DROPPED) if self.punctuation == "drop" else lowered).split()

    def detokenize(self, tokens: Sequence[str]) -> str:
        """The words joined by single spaces."""
        return " ".join(tokens)

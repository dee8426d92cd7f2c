"""Captions as text: what the readers hand on, and how a caption becomes words."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Punctuation = Literal["keep", "drop"]

_DROPPED = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class ImageCaptions:
    """The images of one split with their captions as they were read.

    Attributes:
        images: N image names, distinct.
        captions: N lists of at least one caption.
        origin: name of the file, for later error sentences.
    """

    images: list[str]
    captions: list[list[str]]
    origin: str = "the given captions"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise ValueError(
                f"images and captions must have the same length, got {len(self.images)} and {len(self.captions)}"
            )

    def __len__(self) -> int:
        return len(self.images)


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

"""What a training set was read with and is trained without."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """Counts of training pairs (of captions: pairs of an image and a caption) that are not used.

    Attributes:
        empty: with nothing on one side.
        longer: with more tokens than `max_length` on one side.
        max_length: the limit, None without one.
    """

    empty: int = 0
    longer: int = 0
    max_length: int | None = None

    def __str__(self) -> str:
        """In words; empty where nothing was left out."""
        parts = [f"{self.empty:,} empty"] if self.empty else []
        if self.longer:
            parts.append(f"{self.longer:,} longer than {self.max_length} tokens")
        return " and ".join(parts)

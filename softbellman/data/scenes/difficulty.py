"""How hard scenes and captions are: one number, and the settings it stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneDifficulty:
    """The settings of the generator.

    Attributes:
        kinds, colours: how many of them occur.
        further: probability of each further shape, beside those that a scene is built around, up to four in all.
        jitter: how far painted colours stray from the named ones, in 1/255 a channel.
        freedom: weight of each other way to say something against the usual way.
        detail: probability of each detail (a size, the place of a further shape).
        vague: probability that a shape's colour is left out.
    """

    kinds: int
    colours: int
    further: float
    jitter: int
    freedom: float
    detail: float
    vague: float

    @classmethod
    def of(cls, level: float) -> SceneDifficulty:
        """The settings of a level between 1 (few kinds, mostly two shapes, few synonyms) and 5.

        Raises:
            ValueError: a level outside 1..5.
        """
        if not 1.0 <= level <= 5.0:
            raise ValueError(f"difficulty must lie in 1..5, got {level}")
        step = level - 1.0
        return cls(
            kinds=4 + round(step),
            colours=5 + round(step),
            further=0.10 + 0.12 * step,
            jitter=6 + round(5 * step),
            freedom=0.10 + 0.15 * step,
            detail=0.30 + 0.05 * step,
            vague=0.02 + 0.02 * step,
        )

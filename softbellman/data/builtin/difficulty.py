"""How hard the built-in language is: one number, and the settings it stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """The settings of the generator. Probabilities are per place where the thing could happen.

    Attributes:
        rare_nouns, rare_verbs, rare_adjectives, rare_names: invented words behind the core lexicon.
        compounds: compound nouns, one word in the source and two in the target.
        rare_share: probability that a word is drawn from the rare ones. They outnumber their draws: many of
            those in the test text never occur, or occur once or twice, in training.
        ambiguity: probability that an invented noun, verb or adjective shares its source word with another
            sense.
        subordinate: probability that a sentence has a second clause of any kind.
        relative: probability that a noun carries a relative clause.
        modifier: probability of each optional modifier (adjective, adverb, place, possessor).
        movement: probability that something other than the subject opens the source clause.
        freedom: weight of each other way to say something against the usual way, in the target.
        noise: probability that a TRAINING target leaves out an optional modifier.
    """

    rare_nouns: int
    rare_verbs: int
    rare_adjectives: int
    rare_names: int
    compounds: int
    rare_share: float
    ambiguity: float
    subordinate: float
    relative: float
    modifier: float
    movement: float
    freedom: float
    noise: float

    @classmethod
    def of(cls, level: float) -> Difficulty:
        """The settings of a level between 1 (core words, short clauses) and 5.

        Raises:
            ValueError: a level outside 1..5.
        """
        if not 1.0 <= level <= 5.0:
            raise ValueError(f"difficulty must lie in 1..5, got {level}")
        step = level - 1.0
        return cls(
            rare_nouns=round(1200 * step),
            rare_verbs=round(300 * step),
            rare_adjectives=round(300 * step),
            rare_names=round(300 * step),
            compounds=round(900 * step),
            rare_share=0.10 * step,
            ambiguity=0.15 + 0.05 * step,
            subordinate=0.10 + 0.12 * step,
            relative=0.04 + 0.04 * step,
            modifier=0.20 + 0.06 * step,
            movement=0.10 + 0.08 * step,
            freedom=0.10 + 0.30 * step,
            noise=0.01 * step,
        )

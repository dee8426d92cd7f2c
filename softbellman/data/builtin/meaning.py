"""Meanings: what a sentence says, before either language says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from softbellman.data.builtin.entries import Adjective, Adverb, Name, Noun, Preposition, Verb

Tense = Literal["present", "past", "future"]
Determiner = Literal[
    "definite", "indefinite", "demonstrative", "my", "our", "every", "two", "three", "many", "some"
]

PLURAL_ONLY: Sequence[Determiner] = ("two", "three", "many", "some")


@dataclass(frozen=True)
class Pronoun:
    """A pronoun: `person` is the target's, `gender` the source's grammatical one (p = plural)."""

    person: Literal["he", "she", "it", "they"]
    gender: Literal["m", "f", "n", "p"]


@dataclass(frozen=True)
class Gap:
    """The place of the noun that a relative clause modifies."""

    head: Noun
    plural: bool


@dataclass(frozen=True)
class NounPhrase:
    """A noun with what belongs to it.

    Attributes:
        predicative: the source says its (only) adjective as a relative clause, `der mann , der alt ist ,`.
        genitive: the source marks the possessor by case instead of `von`.
        relative: a clause one of whose noun phrases is a Gap.
    """

    noun: Noun
    plural: bool
    determiner: Determiner
    adjectives: tuple[Adjective, ...] = ()
    possessor: NounPhrase | Name | None = None
    relative: Clause | None = None
    predicative: bool = False
    genitive: bool = False


Participant = NounPhrase | Name | Pronoun | Gap


@dataclass(frozen=True)
class Clause:
    """A verb with its participants and modifiers.

    Attributes:
        modal: "" or one of can, must, want, may, shall.
        gladly: the source has `gern`, the target `like to`.
        town: a place given by its name; place: a preposition with its noun phrase.
        front: what opens the source clause when it is a main clause.
        passive: the source clause is passive.
        content: for a complement verb the clause it introduces, for a control verb the one without a subject.
    """

    verb: Verb
    subject: Participant | None
    object: Participant | None = None
    recipient: Participant | None = None
    tense: Tense = "present"
    modal: str = ""
    negated: bool = False
    gladly: bool = False
    time: Adverb | None = None
    frequency: Adverb | None = None
    manner: Adverb | None = None
    place: tuple[Preposition, NounPhrase] | None = None
    town: Name | None = None
    content: Clause | None = None
    front: Literal["subject", "object", "time", "place"] = "subject"
    passive: bool = False


@dataclass(frozen=True)
class Sentence:
    """A main clause, perhaps with an adverbial clause before or after it, or a yes-no question."""

    main: Clause
    connective: Adverb | None = None
    subordinate: Clause | None = None
    subordinate_first: bool = False
    question: bool = False


def is_plural(participant: Participant) -> bool:
    """Grammatical number."""
    if isinstance(participant, Name):
        return False
    if isinstance(participant, Pronoun):
        return participant.person == "they"
    return participant.plural

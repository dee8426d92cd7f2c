"""The lexicon of a difficulty: the core tables, then rare compounds and invented words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from softbellman.data.builtin import tables
from softbellman.data.builtin.difficulty import Difficulty
from softbellman.data.builtin.draws import Draws, zipf
from softbellman.data.builtin.entries import (
    DOMAINS,
    Adjective,
    Adverb,
    Name,
    Noun,
    Preposition,
    Verb,
    VerbKind,
    domains,
    noun_targets,
)
from softbellman.data.builtin.invention import Inventor

Item = TypeVar("Item")


def _records(table: str) -> Iterator[list[str]]:
    for line in table.replace("\n", ";").split(";"):
        if line.strip():
            yield line.split()


def _targets(words: str) -> tuple[str, ...]:
    return tuple(words.replace("_", " ").split("/"))


class Ranked(Generic[Item]):
    """Core entries and rare ones, each from the most to the least frequent with Zipfian weights.

    Args:
        entries: the core ones, then the rare ones.
        core: how many are core.
        rare_share: probability that a rare one is drawn.
    """

    def __init__(self, entries: list[Item], *, core: int, rare_share: float) -> None:
        self.entries = entries
        self._core, self._rare = entries[:core], entries[core:]
        self._core_weights, self._rare_weights = zipf(core), zipf(len(entries) - core)
        self._rare_share = rare_share if self._rare else 0.0

    def draw(self, draws: Draws) -> Item:
        """One entry by its weight."""
        if draws.chance(self._rare_share):
            return draws.weighted(self._rare, self._rare_weights)
        return draws.weighted(self._core, self._core_weights)


@dataclass
class Lexicon:
    """All entries, ranked, with the look-ups that tell whether a context decides between senses."""

    nouns: dict[str, Ranked[Noun]]
    verbs: dict[VerbKind, Ranked[Verb]]
    adjectives: dict[str, Ranked[Adjective]]
    prepositions: list[Preposition]
    adverbs: dict[str, list[Adverb]]
    connectives: list[Adverb]
    names: Ranked[Name]
    towns: Ranked[Name]
    noun_senses: dict[str, list[Noun]] = field(default_factory=dict)
    objects_of: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    subjects_of: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    domains_of_adjective: dict[str, frozenset[str]] = field(default_factory=dict)
    domains_of_preposition: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        senses: dict[str, list[Noun]] = defaultdict(list)
        for ranked in self.nouns.values():
            for noun in ranked.entries:
                senses[noun.source].append(noun)
        self.noun_senses = dict(senses)
        for kind, verbs in self.verbs.items():
            for verb in verbs.entries:
                key = (kind, verb.source)
                self.objects_of[key] = self.objects_of.get(key, frozenset()) | verb.objects
                self.subjects_of[key] = self.subjects_of.get(key, frozenset()) | verb.subjects
        for adjectives in self.adjectives.values():
            for adjective in adjectives.entries:
                known = self.domains_of_adjective.get(adjective.source, frozenset())
                self.domains_of_adjective[adjective.source] = known | adjective.domains
        for preposition in self.prepositions:
            known = self.domains_of_preposition.get(preposition.source, frozenset())
            self.domains_of_preposition[preposition.source] = known | preposition.domains

    def decided(self, noun: Noun, allowed: frozenset[str], adjectives: tuple[Adjective, ...]) -> bool:
        """Whether the domains its governor allows and its adjectives leave the source noun one sense."""
        for adjective in adjectives:
            allowed = allowed & self.domains_of_adjective[adjective.source]
        return sum(sense.domain in allowed for sense in self.noun_senses[noun.source]) == 1

    @property
    def ambiguous_nouns(self) -> list[str]:
        """Source nouns with more than one sense."""
        return sorted(source for source, senses in self.noun_senses.items() if len(senses) > 1)


def _core_nouns() -> dict[str, list[Noun]]:
    return {
        domain: [
            Noun(source, plural, gender, domain, noun_targets(targets))  # type: ignore[arg-type]
            for gender, source, plural, targets in _records(tables.NOUNS[domain])
        ]
        for domain in DOMAINS
    }


def _core_verbs() -> dict[VerbKind, list[Verb]]:
    verbs: dict[VerbKind, list[Verb]] = {}
    kinds: tuple[VerbKind, ...] = ("transitive", "intransitive", "ditransitive", "complement", "control")
    for kind in kinds:
        verbs[kind] = []
        for record in _records(tables.VERBS[kind]):
            subjects, *objects, infinitive, third, participle, targets = record
            particle, _, stem = infinitive.rstrip("*").rpartition("|")
            verbs[kind].append(
                Verb(
                    kind=kind,
                    infinitive=stem,
                    third=third,
                    participle=participle,
                    particle=particle,
                    auxiliary="sein" if infinitive.endswith("*") else "haben",
                    targets=_targets(targets),
                    subjects=domains(subjects),
                    objects=domains(objects[0] if objects else "-"),
                )
            )
    return verbs


def _core_adjectives() -> list[Adjective]:
    entries = []
    for source, where, targets in _records(tables.ADJECTIVES):
        source, _, stem = source.partition(":")
        entries.append(Adjective(source, stem or source, _targets(targets), domains(where)))
    return entries


def _adverbs(table: str) -> list[Adverb]:
    return [
        Adverb(source, _targets(targets), "" if tense == "any" else tense)
        for source, tense, targets in _records(table)
    ]


@lru_cache(maxsize=8)
def build_lexicon(difficulty: Difficulty) -> Lexicon:
    """The lexicon of a difficulty. It is a function of the difficulty alone: other seeds, same language."""
    nouns, verbs, adjectives = _core_nouns(), _core_verbs(), _core_adjectives()
    people = [Name(word, gender) for gender, word in _records(tables.NAMES)]  # type: ignore[arg-type]
    towns = [Name(word, "n") for word in tables.TOWNS.split()]
    core_nouns = {domain: len(entries) for domain, entries in nouns.items()}
    core_verbs = {kind: len(entries) for kind, entries in verbs.items()}
    core_adjectives = {domain: sum(domain in entry.domains for entry in adjectives) for domain in DOMAINS}
    core_people, core_towns = len(people), len(towns)

    inventor = Inventor(nouns, verbs, adjectives, ambiguity=difficulty.ambiguity)
    inventor.add_nouns(difficulty.rare_nouns, difficulty.compounds)
    inventor.add_verbs(difficulty.rare_verbs)
    inventor.add_adjectives(difficulty.rare_adjectives)
    inventor.add_names(people, towns, difficulty.rare_names)

    def ranked(entries: list[Item], core: int) -> Ranked[Item]:
        return Ranked(entries, core=core, rare_share=difficulty.rare_share)

    return Lexicon(
        nouns={domain: ranked(entries, core_nouns[domain]) for domain, entries in nouns.items()},
        verbs={kind: ranked(entries, core_verbs[kind]) for kind, entries in verbs.items()},
        adjectives={
            domain: ranked(
                [entry for entry in adjectives if domain in entry.domains], core_adjectives[domain]
            )
            for domain in DOMAINS
        },
        prepositions=[
            Preposition(source, _targets(targets), domains(where))
            for source, where, targets in _records(tables.PREPOSITIONS)
        ],
        adverbs={name: _adverbs(table) for name, table in tables.ADVERBS.items()},
        connectives=[Adverb(source, _targets(targets)) for source, targets in _records(tables.CONNECTIVES)],
        names=ranked(people, core_people),
        towns=ranked(towns, core_towns),
    )

"""Entries of the lexicon: one SENSE each. Two entries with the same source word make that word ambiguous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from softbellman.data.builtin.english import plural

Gender = Literal["m", "f", "n"]
VerbKind = Literal["transitive", "intransitive", "ditransitive", "complement", "control"]

DOMAINS = (
    "person", "animal", "food", "clothes", "tool", "vehicle", "building", "institution", "furniture", "text",
    "plant", "place", "idea", "event", "body",
)  # fmt: skip


@dataclass(frozen=True)
class Noun:
    """A noun sense. `targets` are its translations (the first is the usual one) as (singular, plural)."""

    source: str
    source_plural: str
    gender: Gender
    domain: str
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Name:
    """A person's or a town's name, the same in both languages."""

    word: str
    gender: Gender


@dataclass(frozen=True)
class Verb:
    """A verb sense. The domains of its subject and object decide between the senses of one source verb.

    Attributes:
        infinitive, third, participle: source forms without the separable particle.
        particle: the separable particle, or "".
        auxiliary: "haben" or "sein".
        targets: base forms of the translations, the usual one first.
        subjects, objects: domains; no objects for intransitive, complement and control verbs.
    """

    kind: VerbKind
    infinitive: str
    third: str
    participle: str
    particle: str
    auxiliary: Literal["haben", "sein"]
    targets: tuple[str, ...]
    subjects: frozenset[str]
    objects: frozenset[str]

    @property
    def source(self) -> str:
        """The whole infinitive, the word that may be ambiguous."""
        return self.particle + self.infinitive


@dataclass(frozen=True)
class Adjective:
    """An adjective sense for nouns of some domains. `stem` takes the endings, `source` stands alone."""

    source: str
    stem: str
    targets: tuple[str, ...]
    domains: frozenset[str]


@dataclass(frozen=True)
class Preposition:
    """A preposition with the dative, in one sense that belongs to some domains."""

    source: str
    targets: tuple[str, ...]
    domains: frozenset[str]


@dataclass(frozen=True)
class Adverb:
    """An adverb; `tense` restricts it to present, past or future clauses ("" = any)."""

    source: str
    targets: tuple[str, ...]
    tense: str = ""


def noun_targets(words: str) -> tuple[tuple[str, str], ...]:
    """Parse `woman:women/lady`: translations by `/`, an irregular plural after `:`, spaces as `_`."""
    pairs = []
    for word in words.replace("_", " ").split("/"):
        singular, _, irregular = word.partition(":")
        pairs.append((singular, irregular or plural(singular)))
    return tuple(pairs)


def domains(names: str) -> frozenset[str]:
    """Parse `person+animal`; `thing` stands for all that can be made, `any` for all, `-` for none."""
    groups = {
        "any": DOMAINS,
        "thing": ("clothes", "tool", "vehicle", "furniture"),
        "who": ("person", "institution"),
        "-": (),
    }
    found: set[str] = set()
    for name in names.split("+"):
        found.update(groups.get(name, (name,)))
    if not found <= set(DOMAINS):
        raise ValueError(f"unknown domains {sorted(found - set(DOMAINS))}")
    return frozenset(found)

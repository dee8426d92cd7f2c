"""The source language: verb-final clauses, verb second in main clauses, case on articles and adjectives."""

from __future__ import annotations

from typing import Literal

from softbellman.data.builtin.entries import Name
from softbellman.data.builtin.meaning import (
    Clause,
    Gap,
    NounPhrase,
    Participant,
    Pronoun,
    Sentence,
    is_plural,
)

Case = Literal["nominative", "accusative", "dative", "genitive"]
Order = Literal["main", "question", "final", "infinitive"]
Slot = Literal["m", "f", "n", "p"]

_DEFINITE: dict[Case, dict[Slot, str]] = {
    "nominative": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "accusative": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dative": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
    "genitive": {"m": "des", "f": "der", "n": "des", "p": "der"},
}
# Endings of dieser, jeder and of bare adjectives; of ein, mein, unser, kein.
_STRONG: dict[Case, dict[Slot, str]] = {
    "nominative": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "accusative": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dative": {"m": "em", "f": "er", "n": "em", "p": "en"},
    "genitive": {"m": "es", "f": "er", "n": "es", "p": "er"},
}
_ARTICLE_OF_EIN: dict[Case, dict[Slot, str]] = {
    **_STRONG,
    "nominative": {"m": "", "f": "e", "n": "", "p": "e"},
}
_ARTICLE_OF_EIN["accusative"] = {"m": "en", "f": "e", "n": "", "p": "e"}
_STEMS = {
    "indefinite": "ein",
    "my": "mein",
    "our": "unser",
    "none": "kein",
    "demonstrative": "dies",
    "every": "jed",
}
_NUMERALS = {"two": "zwei", "three": "drei", "many": "viele", "some": "einige"}
_PRONOUNS: dict[Case, dict[Slot, str]] = {
    "nominative": {"m": "er", "f": "sie", "n": "es", "p": "sie"},
    "accusative": {"m": "ihn", "f": "sie", "n": "es", "p": "sie"},
    "dative": {"m": "ihm", "f": "ihr", "n": "ihm", "p": "ihnen"},
}
_MODALS = {
    # (present singular, present plural, past singular, past plural)
    "can": ("kann", "koennen", "konnte", "konnten"),
    "must": ("muss", "muessen", "musste", "mussten"),
    "want": ("will", "wollen", "wollte", "wollten"),
    "may": ("darf", "duerfen", "durfte", "durften"),
    "shall": ("soll", "sollen", "sollte", "sollten"),
}


def say_source(sentence: Sentence) -> list[str]:
    """The tokens of a sentence in the source language, with its final mark."""
    if sentence.question:
        return _punctuated(_clause(sentence.main, "question"), "?")
    if sentence.subordinate is None or sentence.connective is None:
        return _punctuated(_clause(sentence.main, "main"), ".")
    side = [sentence.connective.source, *_clause(sentence.subordinate, "final")]
    if sentence.subordinate_first:
        # The clause fills the first position, so that the finite verb follows at once.
        return _punctuated([*side, ",", *_clause(sentence.main, "question")], ".")
    return _punctuated([*_clause(sentence.main, "main"), ",", *side], ".")


def _punctuated(tokens: list[str], mark: str) -> list[str]:
    """Commas that meet, or that meet the final mark, are said once."""
    kept: list[str] = []
    for token in [*tokens, mark]:
        if kept and kept[-1] == "," and token in (",", mark):
            kept.pop()
        kept.append(token)
    return kept


def _clause(clause: Clause, order: Order) -> list[str]:
    subject, direct = clause.subject, clause.object
    if clause.passive:
        subject, direct = clause.object, None
    finite, tail = _verb_complex(clause, plural=subject is not None and is_plural(subject))
    parts: list[tuple[str, list[str]]] = []
    if subject is not None:
        parts.append(("subject", _participant(subject, "nominative")))
    if clause.recipient is not None:
        parts.append(("recipient", _participant(clause.recipient, "dative")))
    if clause.time is not None:
        parts.append(("time", [clause.time.source]))
    if clause.frequency is not None:
        parts.append(("frequency", [clause.frequency.source]))
    kein = clause.negated and isinstance(direct, NounPhrase) and direct.determiner == "indefinite"
    if direct is not None:
        parts.append(("object", _participant(direct, "accusative", none=kein)))
    if clause.passive and clause.subject is not None:
        parts.append(("agent", ["von", *_participant(clause.subject, "dative")]))
    if clause.negated and not kein:
        parts.append(("negation", ["nicht"]))
    if clause.gladly:
        parts.append(("gladly", ["gern"]))
    if clause.manner is not None:
        parts.append(("manner", [clause.manner.source]))
    if clause.place is not None:
        parts.append(("place", [clause.place[0].source, *_participant(clause.place[1], "dative")]))
    elif clause.town is not None:
        parts.append(("place", ["in", clause.town.word]))

    front: list[str] = []
    if order == "main":
        opening = clause.front if any(name == clause.front for name, _ in parts) else "subject"
        front = next(tokens for name, tokens in parts if name == opening)
        parts = [part for part in parts if part[0] != opening]
    middle = [token for _, tokens in parts for token in tokens]
    if order == "infinitive":
        tokens = [*middle, *_zu(clause)]
    elif order == "final":
        # A separable particle rejoins its verb at the end.
        joined = [*tail[:-1], tail[-1] + finite] if _separated(clause) else [*tail, finite]
        tokens = [*middle, *joined]
    else:
        tokens = [*front, finite, *middle, *tail]
    if clause.content is not None and clause.verb.kind == "complement":
        tokens += [",", "dass", *_clause(clause.content, "final")]
    elif clause.content is not None:
        tokens += [",", *_clause(clause.content, "infinitive")]
    return tokens


def _separated(clause: Clause) -> bool:
    simple = clause.tense == "present" and not clause.modal and not clause.passive
    return simple and clause.verb.particle != ""


def _zu(clause: Clause) -> list[str]:
    verb = clause.verb
    return [verb.particle + "zu" + verb.infinitive] if verb.particle else ["zu", verb.infinitive]


def _verb_complex(clause: Clause, *, plural: bool) -> tuple[str, list[str]]:
    """The finite verb, and what stands at the end of a main clause."""
    verb = clause.verb
    participle = verb.particle + verb.participle
    if clause.modal:
        forms = _MODALS[clause.modal]
        last = [participle, "werden"] if clause.passive else [verb.source]
        return forms[2 * (clause.tense == "past") + plural], last
    if clause.tense == "future":
        last = [participle, "werden"] if clause.passive else [verb.source]
        return ("werden" if plural else "wird"), last
    if clause.tense == "past":
        if clause.passive:
            return ("sind" if plural else "ist"), [participle, "worden"]
        singular, several = ("ist", "sind") if verb.auxiliary == "sein" else ("hat", "haben")
        return (several if plural else singular), [participle]
    if clause.passive:
        return ("werden" if plural else "wird"), [participle]
    return (verb.infinitive if plural else verb.third), ([verb.particle] if verb.particle else [])


def _participant(participant: Participant, case: Case, *, none: bool = False) -> list[str]:
    if isinstance(participant, Name):
        return [participant.word]
    if isinstance(participant, Pronoun):
        return [_PRONOUNS[case][participant.gender]]
    if isinstance(participant, Gap):
        return []
    return _noun_phrase(participant, case, none=none)


def _noun_phrase(phrase: NounPhrase, case: Case, *, none: bool) -> list[str]:
    slot: Slot = "p" if phrase.plural else phrase.noun.gender
    determiner, ending = _determiner("none" if none else phrase.determiner, case, slot)
    tokens = [determiner] if determiner else []
    if not phrase.predicative:
        tokens += [adjective.stem.removesuffix("e") + ending for adjective in phrase.adjectives]
    tokens.append(_noun(phrase, case))
    if phrase.possessor is not None:
        if phrase.genitive and isinstance(phrase.possessor, NounPhrase):
            tokens += _noun_phrase(phrase.possessor, "genitive", none=False)
        else:
            tokens += ["von", *_participant(phrase.possessor, "dative")]
    if phrase.predicative:
        verb = "sind" if phrase.plural else "ist"
        tokens += [",", _DEFINITE["nominative"][slot], phrase.adjectives[0].source, verb, ","]
    elif phrase.relative is not None:
        role: Case = "nominative" if isinstance(phrase.relative.subject, Gap) else "accusative"
        tokens += [",", _DEFINITE[role][slot], *_clause(phrase.relative, "final"), ","]
    return tokens


def _noun(phrase: NounPhrase, case: Case) -> str:
    if phrase.plural:
        plural = phrase.noun.source_plural
        return plural + "n" if case == "dative" and not plural.endswith(("n", "s")) else plural
    source = phrase.noun.source
    if case == "genitive" and phrase.noun.gender != "f":
        return source + ("es" if source.endswith(("s", "z", "d", "t")) else "s")
    return source


def _determiner(name: str, case: Case, slot: Slot) -> tuple[str, str]:
    """The determiner ("" = none) and the ending of the adjectives after it."""
    if name in _NUMERALS:
        numeral = _NUMERALS[name]
        inflected = numeral.endswith("e") and case == "dative"
        return (numeral + "n" if inflected else numeral), _STRONG[case][slot]
    if name == "indefinite" and slot == "p":
        return "", _STRONG[case]["p"]
    weak = "e" if (case == "nominative" and slot != "p") or (case == "accusative" and slot in "fn") else "en"
    if name == "definite":
        return _DEFINITE[case][slot], weak
    if name in ("demonstrative", "every"):
        return _STEMS[name] + _STRONG[case][slot], weak
    mixed = _STRONG[case][slot] if _ARTICLE_OF_EIN[case][slot] == "" else weak
    return _STEMS[name] + _ARTICLE_OF_EIN[case][slot], mixed


def case_is_visible(phrase: Participant | None) -> bool:
    """Whether nominative and accusative of a participant differ: only then may the object come first."""
    if not isinstance(phrase, NounPhrase) or phrase.plural:
        return False
    return phrase.noun.gender == "m"

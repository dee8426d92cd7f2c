"""Inflection of the target language: plurals, verb forms, the indefinite article."""

from __future__ import annotations

from functools import cache
from typing import Literal

VerbForm = Literal["base", "third", "past", "participle", "ing"]

# base: past, participle (regular ones are not listed); the -ing form follows the rules unless
# it is given as a third word.
_IRREGULAR = {
    "be": "was been being", "have": "had had", "do": "did done", "see": "saw seen",
    "spot": "spotted spotted spotting", "read": "read read", "write": "wrote written", "eat": "ate eaten",
    "buy": "bought bought", "sell": "sold sold", "put": "put put putting", "wear": "wore worn",
    "lead": "led led", "run": "ran run running", "give": "gave given", "get": "got got getting",
    "find": "found found", "build": "built built", "drive": "drove driven", "catch": "caught caught",
    "leave": "left left", "hold": "held held", "keep": "kept kept", "understand": "understood understood",
    "steal": "stole stolen", "lose": "lost lost", "cut": "cut cut cutting", "feed": "fed fed",
    "bring": "brought brought", "sleep": "slept slept", "come": "came come", "go": "went gone",
    "sing": "sang sung", "fall": "fell fallen", "stand": "stood stood", "fly": "flew flown",
    "grow": "grew grown", "die": "died died dying", "begin": "began begun beginning", "take": "took taken",
    "swim": "swam swum swimming", "send": "sent sent", "lend": "lent lent", "tell": "told told",
    "say": "said said", "think": "thought thought", "know": "knew known", "hear": "heard heard",
    "forget": "forgot forgotten forgetting", "plan": "planned planned planning",
    "stop": "stopped stopped stopping", "shut": "shut shut shutting", "draw": "drew drawn",
    "ban": "banned banned banning", "forbid": "forbade forbidden forbidding", "teach": "taught taught",
    "win": "won won winning", "meet": "met met", "abandon": "abandoned abandoned abandoning",
    "visit": "visited visited visiting", "sink": "sank sunk", "regret": "regretted regretted regretting",
    "seek": "sought sought",
}  # fmt: skip

_VOWELS = frozenset("aeiou")


@cache
def plural(noun: str) -> str:
    """The regular plural of a noun of one word or more (the last one is inflected)."""
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in _VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


@cache
def inflect(verb: str, form: VerbForm) -> str:
    """A form of a verb of one word or more (the first one is inflected: `pick up`, `picked up`)."""
    head, space, rest = verb.partition(" ")
    return _inflect_word(head, form) + space + rest


def _inflect_word(base: str, form: VerbForm) -> str:
    irregular = _IRREGULAR.get(base, "").split()
    if form == "base":
        return base
    if form == "third":
        return {"be": "is", "have": "has", "do": "does", "go": "goes"}.get(base) or plural(base)
    if form == "ing":
        if len(irregular) == 3:
            return irregular[2]
        return (base[:-1] if base.endswith("e") and not base.endswith("ee") else base) + "ing"
    if irregular:
        return irregular[0] if form == "past" else irregular[1]
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in _VOWELS:
        return base[:-1] + "ied"
    return base + "ed"


def finite(verb: str, *, past: bool, singular: bool) -> str:
    """The finite form that agrees with a third-person (or, plural, any) subject."""
    if verb == "be":
        return ("was" if singular else "were") if past else ("is" if singular else "are")
    if past:
        return inflect(verb, "past")
    return inflect(verb, "third" if singular else "base")


def with_article(tokens: list[str]) -> list[str]:
    """The tokens with every `a` that stands before a vowel turned into `an`."""
    return [
        "an" if token == "a" and following[:1] in _VOWELS else token
        for token, following in zip(tokens, [*tokens[1:], ""], strict=True)
    ]

"""The target language: every way to say a meaning. One walk over it, with all choices made by a Chooser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.english import finite, inflect, with_article
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

Option = TypeVar("Option")

_DETERMINERS = {"definite": "the", "my": "my", "our": "our", "two": "two", "three": "three"}
_OBJECT_PRONOUNS = {"he": "him", "she": "her", "it": "it", "they": "them"}
_CONTRACTED = {"cannot": "can't", "will not": "won't"}


class Chooser:
    """Takes the first option (the usual way) or another one, which weighs `freedom` against it.

    Args:
        draws: None always takes the first.
        freedom: weight of each other option; 0 also takes the first always.
        noise: probability that an optional modifier is left out.
    """

    def __init__(self, draws: Draws | None = None, *, freedom: float = 0.0, noise: float = 0.0) -> None:
        self._draws = draws
        self._freedom = freedom
        self._noise = noise

    def __call__(self, options: Sequence[Option], *, weight: float = 1.0) -> Option:
        """One of the options; `weight` scales how likely the others are."""
        others = len(options) - 1
        if self._draws is None or others == 0:
            return options[0]
        share = weight * self._freedom * others
        if not self._draws.chance(share / (1.0 + share)):
            return options[0]
        return options[1 + self._draws.below(others)]

    def leaves_out(self) -> bool:
        """Whether an optional modifier is left untranslated."""
        return self._draws is not None and self._noise > 0.0 and self._draws.chance(self._noise)


def say_target(sentence: Sentence, choose: Chooser) -> list[str]:
    """The tokens of a sentence in the target language, with its final mark."""
    if sentence.question:
        return with_article([*_clause(sentence.main, choose, question=True), "?"])
    main = _clause(sentence.main, choose, opens=True)
    if sentence.subordinate is None or sentence.connective is None:
        return with_article([*main, "."])
    side = [*choose(sentence.connective.targets).split(), *_clause(sentence.subordinate, choose)]
    if choose((sentence.subordinate_first, not sentence.subordinate_first)):
        return with_article([*side, ",", *main, "."])
    return with_article([*main, *side, "."])


@dataclass(frozen=True)
class _Link:
    """One verb of the chain: its base form, words after it, and the form it asks of the next verb."""

    base: str
    asks: str
    auxiliary: bool = True
    words: tuple[str, ...] = ()


def _clause(clause: Clause, choose: Chooser, *, question: bool = False, opens: bool = False) -> list[str]:
    """A finite clause. The subject is left out where it is a Gap; `opens`: a time adverb may come first."""
    passive = _may_be_passive(clause) and choose((clause.passive, not clause.passive), weight=0.4)
    subject = clause.object if passive else clause.subject
    if subject is None:
        raise ValueError("a finite clause needs a subject")
    negated, none = clause.negated, False
    if negated and isinstance(clause.object, NounPhrase) and clause.object.determiner == "indefinite":
        none = passive or choose((False, True))
        negated = not none
    lead = _noun_phrase(subject, choose, subject=True, none=none and passive)
    group = _verb_group(clause, choose, passive=passive, singular=not is_plural(subject), negated=negated)
    if (negated or question) and not group[0].auxiliary:
        group = [_Link("do", "base"), *group]

    past = clause.tense == "past" and group[0].base != "have"
    if clause.tense == "past" and clause.modal == "must":
        past = True
    first = group[0]
    if first.base in ("can", "must", "may", "will", "should", "need"):
        head = "could" if first.base == "can" and clause.tense == "past" else first.base
    else:
        head = finite(first.base, past=past, singular=not is_plural(subject))
    frequency = (
        [] if clause.frequency is None or choose.leaves_out() else choose(clause.frequency.targets).split()
    )
    manner = [] if clause.manner is None or choose.leaves_out() else choose(clause.manner.targets).split()
    early = choose((False, True)) if manner and manner[0].endswith("ly") and not passive else False

    if first.auxiliary:
        verbs = _negate(head, choose, question=question) if negated else [head]
        opening, verbs = (verbs[:1], verbs[1:]) if question else ([], verbs)
        inner = [*verbs, *frequency, *first.words]
        rest = _chain(group[0].asks, group[1:], before_main=manner if early else [])
    else:
        opening = []
        inner = frequency
        rest = _chain(head, group, before_main=manner if early else [], head_is_finite=True)

    after = _complements(clause, choose, passive=passive, any_=negated and not none, none=none)
    if manner and not early:
        after += manner
    if clause.place is not None and not choose.leaves_out():
        after += [*choose(clause.place[0].targets).split(), *_noun_phrase(clause.place[1], choose)]
    elif clause.town is not None and not choose.leaves_out():
        after += ["in", clause.town.word]
    time = [] if clause.time is None or choose.leaves_out() else choose(clause.time.targets).split()
    time_first = bool(time) and opens and clause.content is None and choose((False, True))
    if time and not time_first:
        after += time
    after += _content(clause, choose)
    return [*(time if time_first else []), *opening, *lead, *inner, *rest, *after]


def _may_be_passive(clause: Clause) -> bool:
    if clause.object is None or clause.gladly or clause.modal == "want":
        return False
    if isinstance(clause.subject, Gap) or isinstance(clause.object, Gap):
        return False  # the pronoun of a relative clause keeps its part
    return clause.verb.kind in ("transitive", "ditransitive") and not isinstance(clause.subject, Pronoun)


def _verb_group(
    clause: Clause, choose: Chooser, *, passive: bool, singular: bool, negated: bool
) -> list[_Link]:
    """Auxiliaries, then the main verb, each asking for the form of the next."""
    links: list[_Link] = []
    if clause.modal:
        links.append(_modal(clause, choose, negated=negated))
    elif clause.tense == "future":
        links.append(choose((_Link("will", "base"), _Link("be", "base", words=("going", "to")))))
    elif clause.tense == "past" and clause.time is None and clause.frequency is None:
        links += choose(([], [_Link("have", "participle")]))
    if passive:
        links.append(_Link("be", "participle"))
    if clause.gladly:
        links.append(choose((_Link("like", "base", False, ("to",)), _Link("enjoy", "ing", False))))
    links.append(_Link(choose(clause.verb.targets), "", False))
    return links


def _modal(clause: Clause, choose: Chooser, *, negated: bool) -> _Link:
    past = clause.tense == "past"
    able = _Link("be", "base", words=("able", "to"))
    have = _Link("have", "base", False, ("to",))
    if clause.modal == "can":
        return choose((_Link("can", "base"), able))
    if clause.modal == "must":
        # `muss nicht` denies the need: never `must not`.
        if negated:
            return have if past else choose((have, _Link("need", "base")))
        return have if past else choose((_Link("must", "base"), have))
    if clause.modal == "want":
        return choose((_Link("want", "base", False, ("to",)), _Link("wish", "base", False, ("to",))))
    if clause.modal == "may":
        allowed = _Link("be", "base", words=("allowed", "to"))
        if past:
            return allowed
        # `darf nicht` forbids.
        return choose((_Link("must", "base"), allowed) if negated else (_Link("may", "base"), allowed))
    supposed = _Link("be", "base", words=("supposed", "to"))
    return supposed if past else choose((_Link("should", "base"), supposed))


def _negate(head: str, choose: Chooser, *, question: bool) -> list[str]:
    """The finite auxiliary with its negation; contracted in a question, where the auxiliary moves."""
    plain = ["cannot"] if head == "can" else [head, "not"]
    if head in ("may", "am"):
        return plain
    joined = " ".join(plain)
    contracted = [_CONTRACTED.get(joined, head + "n't")]
    return contracted if question else choose((plain, contracted))


def _chain(
    form: str, links: Sequence[_Link], *, before_main: list[str], head_is_finite: bool = False
) -> list[str]:
    """The verbs after the finite one; `head_is_finite`: the first of them is `form`, inflected already."""
    tokens: list[str] = []
    for number, link in enumerate(links):
        if number == len(links) - 1:
            tokens += before_main
        if head_is_finite and number == 0:
            tokens += form.split()
        else:
            tokens += inflect(link.base, form).split()
        tokens += link.words
        form = link.asks
    return tokens


def _complements(clause: Clause, choose: Chooser, *, passive: bool, any_: bool, none: bool) -> list[str]:
    direct: list[str] = []
    if clause.object is not None and not passive:
        direct = _noun_phrase(clause.object, choose, none=none, any_=any_)
    recipient = [] if clause.recipient is None else _noun_phrase(clause.recipient, choose)
    agent: list[str] = []
    if passive and clause.subject is not None:
        agent = ["by", *_noun_phrase(clause.subject, choose)]
    if not recipient:
        return [*direct, *agent]
    if passive or isinstance(clause.object, Gap):
        return [*direct, "to", *recipient, *agent]
    # The verbs that only take `to`.
    shift = (False,) if clause.verb.targets[0] in ("donate",) else (True, False)
    return [*recipient, *direct] if choose(shift) else [*direct, "to", *recipient]


def _content(clause: Clause, choose: Chooser) -> list[str]:
    if clause.content is None:
        return []
    if clause.verb.kind == "complement":
        return [*choose((["that"], [])), *_clause(clause.content, choose)]
    content = clause.content
    verb = _chain("base", [_Link(choose(content.verb.targets), "", False)], before_main=[])
    after = _complements(content, choose, passive=False, any_=False, none=False)
    return ["not", "to", *verb, *after] if content.negated else ["to", *verb, *after]


def _noun_phrase(
    participant: Participant,
    choose: Chooser,
    *,
    subject: bool = False,
    none: bool = False,
    any_: bool = False,
) -> list[str]:
    if isinstance(participant, Name):
        return [participant.word]
    if isinstance(participant, Pronoun):
        return [participant.person if subject else _OBJECT_PRONOUNS[participant.person]]
    if isinstance(participant, Gap):
        return []
    phrase = participant
    forms = choose(phrase.noun.targets)
    noun = forms[phrase.plural].split()
    adjectives = [choose(adjective.targets) for adjective in phrase.adjectives if not choose.leaves_out()]
    determiner = ["no"] if none else _determiner(phrase, choose, any_=any_)
    clause: list[str] = []
    if phrase.relative is not None:
        clause = _relative(phrase, phrase.relative, choose)
    elif _as_clause(phrase, adjectives, choose):
        who = choose(_relative_pronouns(phrase))
        clause = [who, "are" if phrase.plural else "is", *adjectives[0].split()]
        adjectives = []
    words = [word for adjective in adjectives for word in adjective.split()] + noun
    if phrase.possessor is None:
        return [*determiner, *words, *clause]
    owner = _noun_phrase(phrase.possessor, choose)
    before = isinstance(phrase.possessor, Name) or phrase.possessor.noun.domain in (
        "person",
        "animal",
        "institution",
    )
    if choose((before, not before)):
        return [*owner, "'s", *words, *clause]
    return [*determiner, *words, "of", *owner, *clause]


def _as_clause(phrase: NounPhrase, adjectives: list[str], choose: Chooser) -> bool:
    """Whether the adjective becomes a relative clause: usually when the source has one."""
    if len(adjectives) != 1 or phrase.determiner != "definite" or phrase.possessor is not None:
        return False
    return choose((phrase.predicative, not phrase.predicative), weight=0.25)


def _relative_pronouns(phrase: NounPhrase) -> tuple[str, str]:
    return ("who", "that") if phrase.noun.domain == "person" else ("that", "which")


def _determiner(phrase: NounPhrase, choose: Chooser, *, any_: bool) -> list[str]:
    name = phrase.determiner
    if name in _DETERMINERS:
        return [_DETERMINERS[name]]
    if name == "indefinite":
        if phrase.plural:
            return choose(([], ["any"])) if any_ else []
        return ["a"]
    if name == "demonstrative":
        return ["these"] if phrase.plural else ["this"]
    if name == "every":
        return [choose(("every", "each"))]
    return choose((["many"], ["a", "lot", "of"])) if name == "many" else [choose(("some", "several"))]


def _relative(phrase: NounPhrase, clause: Clause, choose: Chooser) -> list[str]:
    who = choose(_relative_pronouns(phrase))
    if isinstance(clause.subject, Gap):
        return [who, *_clause(clause, choose)]
    return [*choose(([who], [])), *_clause(clause, choose)]

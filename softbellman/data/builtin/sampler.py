"""Draws meanings whose source sentence has one reading: the context of an ambiguous word decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from softbellman.data.builtin.difficulty import Difficulty
from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.entries import Adjective, Name, Noun, Preposition, Verb, VerbKind
from softbellman.data.builtin.lexicon import Lexicon
from softbellman.data.builtin.meaning import (
    PLURAL_ONLY,
    Clause,
    Determiner,
    Gap,
    NounPhrase,
    Participant,
    Pronoun,
    Sentence,
    Tense,
    is_plural,
)
from softbellman.data.builtin.source import case_is_visible

_DETERMINERS: tuple[Determiner, ...] = (
    "definite", "definite", "definite", "definite", "definite", "indefinite", "indefinite", "indefinite",
    "demonstrative", "my", "our", "every", "two", "three", "many", "some",
)  # fmt: skip
_MODALS = ("can", "can", "must", "must", "want", "may", "shall")


class Rejected(Exception):
    """A draw that would leave an ambiguity open or an odd sentence; the caller draws again."""


class Sampler:
    """Draws the meaning of one sentence after the other from one source of randomness."""

    def __init__(self, lexicon: Lexicon, difficulty: Difficulty, draws: Draws) -> None:
        self._lexicon = lexicon
        self._difficulty = difficulty
        self._draws = draws

    def sentence(self) -> Sentence:
        """The meaning of a whole sentence."""
        while True:
            try:
                return self._sentence()
            except Rejected:
                continue

    def _sentence(self) -> Sentence:
        draws, settings = self._draws, self._difficulty
        if not draws.chance(settings.subordinate):
            question = draws.chance(0.1)
            return Sentence(self._clause(question=question, extras=True), question=question)
        shape = draws.below(6)
        if shape == 0:
            return Sentence(self._with_infinitive())
        if shape in (1, 2):
            return Sentence(self._with_content())
        main = self._clause(extras=False)
        connective = draws.pick(self._lexicon.connectives)
        tense: Tense = "past" if connective.source == "nachdem" else main.tense
        side = self._clause(tense=tense, side=True, subject=self._referring_to(main.subject), extras=False)
        return Sentence(main, connective, side, subordinate_first=draws.chance(settings.movement))

    def _with_infinitive(self) -> Clause:
        verb = self._verb("control")
        content = self._clause(verb=self._verb("transitive"), bare=True, extras=False)
        if content.subject is None or isinstance(content.subject, Pronoun):
            raise Rejected
        domain = "person" if isinstance(content.subject, Name) else self._head(content.subject).domain
        if domain not in verb.subjects:
            raise Rejected
        clause = Clause(verb, content.subject, tense=self._tense(), time=None)
        return replace(clause, content=replace(content, subject=None, tense="present", negated=False))

    def _with_content(self) -> Clause:
        verb = self._verb("complement")
        subject = self._participant(verb.subjects, verb.subjects, plain=True)
        tense: Tense = "past" if self._draws.chance(0.4) else "present"
        other = self._referring_to(subject) if self._draws.chance(0.4) else None
        content_tense: Tense | None = "past" if tense == "past" else None
        content = self._clause(side=True, subject=other, tense=content_tense, extras=False)
        return Clause(verb, subject, tense=tense, content=content)

    def _tense(self) -> Tense:
        chance = self._draws.below(10)
        return "present" if chance < 4 else "past" if chance < 8 else "future"

    def _verb(self, kind: VerbKind) -> Verb:
        return self._lexicon.verbs[kind].draw(self._draws)

    def _clause(
        self,
        *,
        verb: Verb | None = None,
        subject: Participant | None = None,
        tense: Tense | None = None,
        side: bool = False,
        bare: bool = False,
        question: bool = False,
        extras: bool,
    ) -> Clause:
        """A clause. `side`: not a main one; `bare`: no modifiers; `extras`: relative clauses allowed."""
        draws, settings, lexicon = self._draws, self._difficulty, self._lexicon
        modifier = settings.modifier
        if verb is None:
            kind = draws.below(10)
            verb = self._verb("transitive" if kind < 6 else "intransitive" if kind < 8 else "ditransitive")
        key = (verb.kind, verb.source)
        plain = bare or side
        # A verb ambiguous in its subject alone (`laufen`) decides nothing about it: all its senses are open.
        if subject is None:
            subject = self._participant(verb.subjects, lexicon.subjects_of[key], plain=plain, extras=extras)
        elif self._domain(subject) not in verb.subjects:
            raise Rejected
        direct: Participant | None = None
        recipient: Participant | None = None
        if verb.objects:
            direct = self._participant(
                verb.objects, lexicon.objects_of[key], plain=plain, extras=extras, person=False
            )
            if direct == subject:
                raise Rejected
        if verb.kind == "ditransitive":
            recipient = self._participant(frozenset(("person",)), frozenset(("person",)), plain=True)
            if recipient == subject:
                raise Rejected
        clause = Clause(verb, subject, direct, recipient, tense=tense or self._tense())
        if bare:
            return clause

        extra = draws.below(12)
        if extra < 2 and clause.tense != "future":
            clause = replace(clause, modal=draws.pick(_MODALS))
        elif (
            extra == 2
            and clause.tense == "present"
            and self._domain(subject) == "person"
            and not isinstance(direct, Pronoun)
        ):
            clause = replace(clause, gladly=verb.auxiliary == "haben" and verb.kind != "ditransitive")
        if not clause.gladly and draws.chance(0.12):
            clause = replace(clause, negated=not self._has_quantifier(clause))
        if draws.chance(modifier):
            adverbs = [entry for entry in lexicon.adverbs["time"] if entry.tense in ("", clause.tense)]
            clause = replace(clause, time=draws.pick(adverbs))
        elif not clause.negated and not clause.gladly and clause.tense != "future" and draws.chance(modifier):
            clause = replace(clause, frequency=draws.pick(lexicon.adverbs["frequency"]))
        if (
            self._domain(subject) in ("person", "animal")
            and not clause.gladly
            and not clause.negated
            and draws.chance(modifier / 2)
        ):
            clause = replace(clause, manner=draws.pick(lexicon.adverbs["manner"]))
        if (verb.kind == "intransitive" and draws.chance(2 * modifier)) or draws.chance(modifier / 2):
            clause = self._placed(clause)
        if direct is not None and not side and not question and self._may_start_passive(clause):
            clause = replace(clause, passive=draws.chance(settings.movement / 3))
        if not side and not question and draws.chance(settings.movement):
            clause = replace(clause, front=self._front(clause))
        return clause

    def _has_quantifier(self, clause: Clause) -> bool:
        """Whether negation would meet a quantifier, whose scope the two languages could order differently."""
        phrases = (clause.subject, clause.object, clause.recipient)
        quantifiers = (*PLURAL_ONLY, "every")
        if isinstance(clause.subject, NounPhrase) and clause.subject.determiner == "indefinite":
            return True
        return any(isinstance(phrase, NounPhrase) and phrase.determiner in quantifiers for phrase in phrases)

    def _may_start_passive(self, clause: Clause) -> bool:
        if clause.gladly or clause.modal == "want" or clause.negated or clause.manner is not None:
            return False
        return clause.verb.kind == "transitive" and not isinstance(clause.subject, Pronoun)

    def _front(self, clause: Clause) -> Literal["subject", "object", "time", "place"]:
        options: list[Literal["object", "time", "place"]] = []
        if clause.time is not None:
            options.append("time")
        if clause.place is not None or clause.town is not None:
            options.append("place")
        visible = case_is_visible(clause.subject) or case_is_visible(clause.object)
        if clause.object is not None and visible and not clause.passive and not clause.negated:
            options.append("object")
        return self._draws.pick(options) if options else "subject"

    def _placed(self, clause: Clause) -> Clause:
        if self._draws.chance(0.25):
            return replace(clause, town=self._lexicon.towns.draw(self._draws))
        preposition: Preposition = self._draws.pick(self._lexicon.prepositions)
        if "tool" in preposition.domains and (
            clause.verb.kind != "transitive" or self._domain(clause.subject) != "person"
        ):
            raise Rejected
        allowed = self._lexicon.domains_of_preposition[preposition.source]
        phrase = self._noun_phrase(preposition.domains, allowed, plain=True)
        return replace(clause, place=(preposition, phrase))

    def _referring_to(self, participant: Participant | None) -> Participant | None:
        """Half of the time a pronoun for the participant, with its grammatical gender in the source."""
        if participant is None or not self._draws.chance(0.5):
            return None
        if isinstance(participant, Name):
            return Pronoun("he" if participant.gender == "m" else "she", participant.gender)
        if isinstance(participant, NounPhrase):
            if participant.plural:
                return Pronoun("they", "p")
            gender = participant.noun.gender
            if participant.noun.domain == "person" and gender != "n":
                return Pronoun("he" if gender == "m" else "she", gender)
            return Pronoun("it", gender)
        return participant

    def _domain(self, participant: Participant | None) -> str:
        if isinstance(participant, NounPhrase):
            return participant.noun.domain
        if isinstance(participant, Gap):
            return participant.head.domain
        # A pronoun may stand for a thing, but as a free subject it stands for a person.
        return "person"

    def _head(self, participant: Participant) -> Noun:
        if not isinstance(participant, NounPhrase):
            raise Rejected
        return participant.noun

    def _participant(
        self,
        domains: frozenset[str],
        allowed: frozenset[str],
        *,
        plain: bool = False,
        extras: bool = False,
        person: bool = True,
    ) -> Participant:
        if "person" in domains and allowed == allowed & frozenset(("person", "animal", "institution")):
            chance = self._draws.below(20)
            if chance < 4:
                return self._lexicon.names.draw(self._draws)
            if chance == 4 and person:
                people: tuple[Pronoun, ...] = (Pronoun("he", "m"), Pronoun("she", "f"), Pronoun("they", "p"))
                return self._draws.pick(people)
        return self._noun_phrase(domains, allowed, plain=plain, extras=extras)

    def _noun_phrase(
        self, domains: frozenset[str], allowed: frozenset[str], *, plain: bool = False, extras: bool = False
    ) -> NounPhrase:
        """A noun of the domains that is the only sense of its word in all that the governing word allows."""
        draws, settings = self._draws, self._difficulty
        domain = draws.pick(sorted(domains))
        noun = self._lexicon.nouns[domain].draw(draws)
        adjectives: tuple[Adjective, ...] = ()
        if draws.chance(settings.modifier):
            adjectives = (self._lexicon.adjectives[domain].draw(draws),)
            if not plain and draws.chance(settings.modifier / 3):
                second = self._lexicon.adjectives[domain].draw(draws)
                if second.source != adjectives[0].source:
                    adjectives = (*adjectives, second)
        if not self._lexicon.decided(noun, allowed, adjectives):
            # One try with an adjective that decides, then the whole sentence is drawn anew.
            adjectives = (self._lexicon.adjectives[domain].draw(draws),)
            if not self._lexicon.decided(noun, allowed, adjectives):
                raise Rejected
        determiner = draws.pick(_DETERMINERS)
        plural = determiner in PLURAL_ONLY or (determiner != "every" and draws.chance(0.2))
        phrase = NounPhrase(noun, plural, determiner, adjectives)
        if plain:
            return phrase
        if determiner == "definite" and draws.chance(settings.modifier / 3):
            return self._possessed(phrase)
        if len(adjectives) == 1 and determiner == "definite" and draws.chance(0.1):
            return replace(phrase, predicative=True)
        if extras and determiner != "every" and draws.chance(settings.relative):
            return replace(phrase, relative=self._relative(noun, plural))
        return phrase

    def _possessed(self, phrase: NounPhrase) -> NounPhrase:
        if self._draws.chance(0.3):
            return replace(phrase, possessor=self._lexicon.names.draw(self._draws))
        people = frozenset(("person",))
        owner = replace(self._noun_phrase(people, people, plain=True), determiner="definite")
        if not is_plural(owner):
            return replace(phrase, possessor=owner, genitive=self._draws.chance(0.5))
        return replace(phrase, possessor=owner)

    def _relative(self, noun: Noun, plural: bool) -> Clause:
        """A relative clause with the noun as its subject or object."""
        gap = Gap(noun, plural)
        verb = self._verb("intransitive" if self._draws.chance(0.3) else "transitive")
        tense: Tense = "past" if self._draws.chance(0.5) else "present"
        lexicon, key = self._lexicon, (verb.kind, verb.source)
        if noun.domain in verb.subjects:
            if verb.kind == "intransitive":
                return Clause(verb, gap, tense=tense)
            direct = self._noun_phrase(verb.objects, lexicon.objects_of[key], plain=True)
            self._visible_roles(noun, plural, direct)
            return Clause(verb, gap, direct, tense=tense)
        if noun.domain in verb.objects:
            subject = self._noun_phrase(verb.subjects, lexicon.subjects_of[key], plain=True)
            self._visible_roles(noun, plural, subject)
            return Clause(verb, subject, gap, tense=tense)
        raise Rejected

    def _visible_roles(self, noun: Noun, plural: bool, other: NounPhrase) -> None:
        """Rejects a relative clause in which case shows neither who acts nor who is acted upon."""
        if not (case_is_visible(other) or (noun.gender == "m" and not plural) or plural != other.plural):
            raise Rejected

"""Invented rare words: compounds of core nouns, and new nouns, verbs, adjectives, names."""

from __future__ import annotations

from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.entries import (
    DOMAINS,
    Adjective,
    Gender,
    Name,
    Noun,
    Verb,
    VerbKind,
    noun_targets,
)


def _words(text: str) -> list[str]:
    return text.split()


_SOURCE_ONSETS = _words("""
    b br d dr f fl g gl gr h k kl kn kr l m n p pfl r s schl schm schw sp st str t tr w z zw
""")
_SOURCE_NUCLEI = ["a", "e", "i", "o", "u", "au", "ei", "ie", "eu", "ae", "oe", "ue"]
_SOURCE_CODAS = _words("""
    ch ck ff ft hl hm hn hr ld lf lk lm ls lt mm mpf nd ng nk nn pp rb rf rg rk rm rn rz ss st tz
""")
_SOURCE_ENDINGS: dict[Gender, list[tuple[str, str]]] = {
    # (singular, plural) endings
    "m": [("", "e"), ("er", "er"), ("ling", "linge")],
    "f": [("e", "en"), ("ung", "ungen"), ("heit", "heiten")],
    "n": [("chen", "chen"), ("nis", "nisse"), ("", "er")],
}
_TARGET_ONSETS = _words("""
    b bl br c ch cl cr d dr f fl g gl gr h j k l m n p pl pr qu r s sc sh sl sn sp st t th tr tw v w
""")
_TARGET_NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ee", "oa", "oo", "ou"]
_TARGET_CODAS = _words("""
    b ck d ft g l ld lk ll m mp n nd ng nk nt p r rd rk rm rn rt sk sp ss st t x
""")
_TARGET_NOUN_ENDINGS = ["", "", "er", "le", "et", "ow", "in"]
_TARGET_ADJECTIVE_ENDINGS = ["y", "ish", "ful", "ous", "ent", "ern"]
# Words of the two grammars that no invented word may equal.
_RESERVED = _words("""
    a an the this these my our every each two three many lot of some several any no not to by that who which
    is are was were am be been being have has had do does did will would can could cannot must may should
    need going able allowed supposed he him she her it they them in on at under behind beneath beside next
    before after during with using like likes enjoy want wish and or as if once now then soon today
    yesterday tomorrow often fast there here from for off up der die das den dem des ein eine einen einem
    einer eines er sie es ihn ihm ihr ihnen hat haben ist sind wird werden worden nicht gern zu von dass ja
    so an auf aus ab vor mit
""")
_PARTICLES = ["", "", "", "an", "auf", "aus", "ab", "ein", "vor", "zu", "mit"]


class Inventor:
    """Appends rare entries to the lists of the core lexicon. Always the same words in the same order.

    Args:
        nouns, verbs, adjectives: the core entries, extended in place.
        ambiguity: probability that a rare source word gets a second sense with another translation.
    """

    def __init__(
        self,
        nouns: dict[str, list[Noun]],
        verbs: dict[VerbKind, list[Verb]],
        adjectives: list[Adjective],
        *,
        ambiguity: float,
    ) -> None:
        self._nouns = nouns
        self._verbs = verbs
        self._adjectives = adjectives
        self._ambiguity = ambiguity
        self._draws = Draws("softbellman lexicon")
        self._taken = set(_RESERVED) | {
            word
            for entries in nouns.values()
            for noun in entries
            for word in (noun.source, noun.source_plural, *(form for pair in noun.targets for form in pair))
        }
        self._taken.update(
            word for entries in verbs.values() for verb in entries for word in (verb.source, *verb.targets)
        )
        self._taken.update(word for entry in adjectives for word in (entry.source, *entry.targets))

    def add_nouns(self, invented: int, compounds: int) -> None:
        """Rare nouns of every domain in turn, compounds and invented ones mixed."""
        remaining = [True] * compounds + [False] * invented
        heads = [noun for domain in DOMAINS[2:] for noun in self._nouns[domain]]
        sources = [noun.source for domain in DOMAINS for noun in self._nouns[domain]]
        modifiers = [noun for noun in heads if sources.count(noun.source) == 1]
        counter = 0
        while remaining:
            if remaining.pop(self._draws.below(len(remaining))):
                self._add_compound(self._draws.pick(modifiers), self._draws.pick(heads))
            else:
                self._add_noun(DOMAINS[counter % len(DOMAINS)])
                counter += 1

    def _add_compound(self, modifier: Noun, head: Noun) -> None:
        # A feminine modifier in -e is linked by -n-, as in `blumentisch`.
        link = "n" if modifier.source.endswith("e") else ""
        source = modifier.source + link + head.source
        if modifier is head or source in self._taken:
            return
        self._taken.add(source)
        first = modifier.targets[0][0]
        self._nouns[head.domain].append(
            Noun(
                source=source,
                source_plural=modifier.source + link + head.source_plural,
                gender=head.gender,
                domain=head.domain,
                targets=tuple((f"{first} {one}", f"{first} {many}") for one, many in head.targets),
            )
        )

    def _add_noun(self, domain: str) -> None:
        gender: Gender = self._draws.pick(("m", "f", "n"))
        ending, plural_ending = self._draws.pick(_SOURCE_ENDINGS[gender])
        stem = self._source_stem(ending)
        places = [domain]
        if self._draws.chance(self._ambiguity):
            other = self._draws.pick(DOMAINS)
            places += [other] if other != domain else []
        for place in places:
            words = "/".join(
                self._target_word(self._draws.pick(_TARGET_NOUN_ENDINGS)) for _ in range(self._synonyms())
            )
            self._nouns[place].append(
                Noun(stem + ending, stem + plural_ending, gender, place, noun_targets(words))
            )

    def add_verbs(self, count: int) -> None:
        """Rare regular verbs: mostly transitive, some intransitive, some separable."""
        for _ in range(count):
            kind: VerbKind = "intransitive" if self._draws.chance(0.25) else "transitive"
            particle = self._draws.pick(_PARTICLES)
            stem = self._source_stem("en")
            link = "e" if stem.endswith(("d", "t")) else ""
            subjects = frozenset(
                ("person", "animal") if self._draws.chance(0.4) else ("person", "institution")
            )
            places = self._some_domains(4)
            senses = [places]
            if kind == "transitive" and self._draws.chance(self._ambiguity):
                senses = [places[:2], places[2:]]
            for sense in senses:
                words = [self._target_word("") for _ in range(self._synonyms())]
                self._verbs[kind].append(
                    Verb(
                        kind=kind,
                        infinitive=stem + "en",
                        third=stem + link + "t",
                        participle="ge" + stem + link + "t",
                        particle=particle,
                        auxiliary="haben",
                        targets=tuple(words),
                        subjects=subjects,
                        objects=frozenset(sense if kind == "transitive" else ()),
                    )
                )

    def add_adjectives(self, count: int) -> None:
        """Rare adjectives for a few domains each."""
        for _ in range(count):
            ending = self._draws.pick(("ig", "lich", "sam", "bar"))
            source = self._source_stem(ending) + ending
            places = self._some_domains(4)
            senses = [places[:2], places[2:]] if self._draws.chance(self._ambiguity) else [places]
            for sense in senses:
                words = [
                    self._target_word(self._draws.pick(_TARGET_ADJECTIVE_ENDINGS))
                    for _ in range(self._synonyms())
                ]
                self._adjectives.append(Adjective(source, source, tuple(words), frozenset(sense)))

    def add_names(self, people: list[Name], towns: list[Name], count: int) -> None:
        """Rare names, the same in both languages: two thirds people, one third towns."""
        for number in range(count):
            stem = self._source_stem("a")
            if number % 3 == 2:
                towns.append(Name(stem + self._draws.pick(("burg", "heim", "dorf", "stadt")), "n"))
            elif self._draws.chance(0.5):
                people.append(Name(stem + "a", "f"))
            else:
                people.append(Name(stem + self._draws.pick(("o", "rich", "bert")), "m"))

    def _synonyms(self) -> int:
        """How many translations one rare sense has."""
        return self._draws.pick((1, 1, 2, 2, 3))

    def _some_domains(self, count: int) -> list[str]:
        left = list(DOMAINS)
        return [left.pop(self._draws.below(len(left))) for _ in range(count)]

    def _source_stem(self, ending: str) -> str:
        return self._new(_SOURCE_ONSETS, _SOURCE_NUCLEI, _SOURCE_CODAS, ending).removesuffix(ending)

    def _target_word(self, ending: str) -> str:
        return self._new(_TARGET_ONSETS, _TARGET_NUCLEI, _TARGET_CODAS, ending)

    def _new(self, onsets: list[str], nuclei: list[str], codas: list[str], ending: str) -> str:
        while True:
            stem = self._draws.pick(onsets) + self._draws.pick(nuclei) + self._draws.pick(codas)
            if self._draws.chance(0.4):
                stem = self._draws.pick(onsets) + self._draws.pick(nuclei) + stem
            if stem not in self._taken and stem + ending not in self._taken:
                self._taken.update((stem, stem + ending))
                return stem + ending

"""The two grammars on meanings put together by hand: expected sentences written out."""

from dataclasses import replace

import pytest

from softbellman.data.builtin import Difficulty
from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.english import inflect, plural
from softbellman.data.builtin.entries import Name
from softbellman.data.builtin.lexicon import build_lexicon
from softbellman.data.builtin.meaning import Clause, Gap, NounPhrase, Pronoun, Sentence
from softbellman.data.builtin.source import say_source
from softbellman.data.builtin.target import Chooser, say_target

LEXICON = build_lexicon(Difficulty.of(1.0))


def noun(target, plural=False, determiner="definite", **rest):
    """A phrase with the noun whose usual translation is `target`."""
    found = [n for ranked in LEXICON.nouns.values() for n in ranked.entries if n.targets[0][0] == target]
    assert len(found) == 1
    return NounPhrase(found[0], plural, determiner, **rest)


def verb(target, kind="transitive"):
    found = [entry for entry in LEXICON.verbs[kind].entries if entry.targets[0] == target]
    assert len(found) == 1
    return found[0]


def adjective(target, domain):
    return next(a for a in LEXICON.adjectives[domain].entries if a.targets[0] == target)


def adverb(kind, source):
    return next(a for a in LEXICON.adverbs[kind] if a.source == source)


def connective(source):
    return next(a for a in LEXICON.connectives if a.source == source)


def both(sentence):
    """The source, and the target said the usual way."""
    if isinstance(sentence, Clause):
        sentence = Sentence(sentence)
    return " ".join(say_source(sentence)), " ".join(say_target(sentence, Chooser()))


def ways(sentence, count=400):
    """Every way found to say it."""
    draws = Draws("ways")
    return {" ".join(say_target(sentence, Chooser(draws, freedom=1.0))) for _ in range(count)}


READ = Clause(verb("read"), noun("man"), noun("letter"))


@pytest.mark.parametrize(
    "changes, source, target",
    [
        ({}, "der mann liest den brief .", "the man reads the letter ."),
        ({"tense": "past"}, "der mann hat den brief gelesen .", "the man read the letter ."),
        ({"tense": "future"}, "der mann wird den brief lesen .", "the man will read the letter ."),
        ({"modal": "must"}, "der mann muss den brief lesen .", "the man must read the letter ."),
        (
            {"modal": "must", "tense": "past"},
            "der mann musste den brief lesen .",
            "the man had to read the letter .",
        ),
        (
            {"modal": "can", "tense": "past"},
            "der mann konnte den brief lesen .",
            "the man could read the letter .",
        ),
        ({"negated": True}, "der mann liest den brief nicht .", "the man does not read the letter ."),
        (
            {"negated": True, "tense": "past"},
            "der mann hat den brief nicht gelesen .",
            "the man did not read the letter .",
        ),
        (
            {"negated": True, "modal": "must"},
            "der mann muss den brief nicht lesen .",
            "the man does not have to read the letter .",
        ),
        (
            {"negated": True, "modal": "may"},
            "der mann darf den brief nicht lesen .",
            "the man must not read the letter .",
        ),
        (
            {"negated": True, "object": noun("letter", determiner="indefinite")},
            "der mann liest keinen brief .",
            "the man does not read a letter .",
        ),
        ({"gladly": True}, "der mann liest den brief gern .", "the man likes to read the letter ."),
        ({"front": "object"}, "den brief liest der mann .", "the man reads the letter ."),
        ({"passive": True}, "der brief wird von dem mann gelesen .", "the letter is read by the man ."),
        (
            {"passive": True, "tense": "past", "object": noun("letter", plural=True)},
            "die briefe sind von dem mann gelesen worden .",
            "the letters were read by the man .",
        ),
        (
            {"subject": noun("child", plural=True), "frequency": adverb("frequency", "oft")},
            "die kinder lesen oft den brief .",
            "the children often read the letter .",
        ),
        (
            {"time": adverb("time", "gestern"), "tense": "past", "front": "time"},
            "gestern hat der mann den brief gelesen .",
            "the man read the letter yesterday .",
        ),
        (
            {"town": Name("wien", "n")},
            "der mann liest den brief in wien .",
            "the man reads the letter in wien .",
        ),
        ({"subject": Pronoun("they", "p")}, "sie lesen den brief .", "they read the letter ."),
        ({"subject": Pronoun("she", "f")}, "sie liest den brief .", "she reads the letter ."),
    ],
)
def test_main_clauses(changes, source, target):
    assert both(replace(READ, **changes)) == (source, target)


def test_separable_verbs_split_and_rejoin():
    clause = Clause(verb("put on"), noun("woman"), noun("coat"))
    assert both(clause) == ("die frau zieht den mantel an .", "the woman puts on the coat .")
    assert both(replace(clause, tense="past"))[0] == "die frau hat den mantel angezogen ."
    assert both(replace(clause, modal="want"))[0] == "die frau will den mantel anziehen ."
    side = Sentence(READ, connective("weil"), clause)
    assert both(side) == (
        "der mann liest den brief , weil die frau den mantel anzieht .",
        "the man reads the letter because the woman puts on the coat .",
    )
    first = replace(side, subordinate_first=True)
    assert both(first) == (
        "weil die frau den mantel anzieht , liest der mann den brief .",
        "because the woman puts on the coat , the man reads the letter .",
    )
    infinitive = Clause(verb("try", "control"), noun("woman"), content=replace(clause, subject=None))
    assert both(infinitive) == (
        "die frau versucht , den mantel anzuziehen .",
        "the woman tries to put on the coat .",
    )


def test_questions():
    assert both(Sentence(READ, question=True)) == (
        "liest der mann den brief ?",
        "does the man read the letter ?",
    )
    past = replace(READ, tense="past", subject=noun("child", plural=True))
    assert both(Sentence(past, question=True)) == (
        "haben die kinder den brief gelesen ?",
        "did the children read the letter ?",
    )
    assert (
        both(Sentence(replace(past, negated=True), question=True))[1]
        == "didn't the children read the letter ?"
    )


def test_complement_and_dative():
    give = Clause(
        verb("give", "ditransitive"), noun("teacher"), noun("book"), noun("child", plural=True), tense="past"
    )
    assert both(give) == (
        "der lehrer hat den kindern das buch gegeben .",
        "the teacher gave the children the book .",
    )
    say = Clause(verb("say", "complement"), Name("eva", "f"), content=give)
    assert both(say) == (
        "eva sagt , dass der lehrer den kindern das buch gegeben hat .",
        "eva says that the teacher gave the children the book .",
    )
    him = replace(give, recipient=Pronoun("he", "m"))
    assert both(him) == ("der lehrer hat ihm das buch gegeben .", "the teacher gave him the book .")


def test_adjective_endings():
    old = (adjective("old", "person"),)
    phrases = {
        "der alte mann": noun("man", adjectives=old),
        "die alte frau": noun("woman", adjectives=old),
        "das kleine kind": noun("child", adjectives=(adjective("small", "person"),)),
        "ein alter mann": noun("man", determiner="indefinite", adjectives=old),
        "ein kleines kind": noun(
            "child", determiner="indefinite", adjectives=(adjective("small", "person"),)
        ),
        "unsere alten maenner": noun("man", plural=True, determiner="our", adjectives=old),
        "viele alte maenner": noun("man", plural=True, determiner="many", adjectives=old),
        "jede muede frau": noun("woman", determiner="every", adjectives=(adjective("tired", "person"),)),
    }
    for expected, phrase in phrases.items():
        assert both(Clause(verb("sleep", "intransitive"), phrase))[0].startswith(expected + " ")
    objects = {
        "den alten mann": noun("man", adjectives=old),
        "einen alten mann": noun("man", determiner="indefinite", adjectives=old),
        "eine alte frau": noun("woman", determiner="indefinite", adjectives=old),
        "alte maenner": noun("man", plural=True, determiner="indefinite", adjectives=old),
        "ein teures schloss": noun(
            "lock", determiner="indefinite", adjectives=(adjective("expensive", "tool"),)
        ),
    }
    for expected, phrase in objects.items():
        assert both(Clause(verb("see"), Name("eva", "f"), phrase))[0] == f"eva sieht {expected} ."


def test_possessors_and_relative_clauses():
    owned = noun("house", possessor=noun("teacher"))
    see = Clause(verb("see"), Name("eva", "f"), owned)
    assert both(see) == ("eva sieht das haus von dem lehrer .", "eva sees the teacher 's house .")
    assert both(replace(see, object=replace(owned, genitive=True)))[0] == "eva sieht das haus des lehrers ."
    man = noun("man")
    slept = Clause(verb("sleep", "intransitive"), Gap(man.noun, False), tense="past")
    assert both(replace(see, subject=replace(man, relative=slept))) == (
        "der mann , der geschlafen hat , sieht das haus von dem lehrer .",
        "the man who slept sees the teacher 's house .",
    )
    letter = noun("letter")
    written = Clause(verb("write"), noun("woman"), Gap(letter.noun, False))
    assert both(replace(READ, object=replace(letter, relative=written))) == (
        "der mann liest den brief , den die frau schreibt .",
        "the man reads the letter that the woman writes .",
    )
    old = noun("man", adjectives=(adjective("old", "person"),), predicative=True)
    assert both(replace(READ, subject=old)) == (
        "der mann , der alt ist , liest den brief .",
        "the man who is old reads the letter .",
    )


def test_the_sentence_decides_between_senses():
    put_on = Clause(verb("put on"), noun("man"), noun("coat"))
    attract = Clause(verb("attract"), noun("city"), noun("man"))
    assert both(put_on)[0].split()[2:] == ["zieht", "den", "mantel", "an", "."]
    assert both(attract) == ("die stadt zieht den mann an .", "the city attracts the man .")
    royal = replace(noun("castle", determiner="indefinite"), adjectives=(adjective("royal", "building"),))
    rusty = replace(noun("lock", determiner="indefinite"), adjectives=(adjective("rusty", "tool"),))
    see = Clause(verb("see"), Name("eva", "f"), royal)
    assert both(see) == ("eva sieht ein koenigliches schloss .", "eva sees a royal castle .")
    assert both(replace(see, object=rusty)) == ("eva sieht ein rostiges schloss .", "eva sees a rusty lock .")


def test_paraphrases():
    found = ways(Sentence(replace(READ, tense="past", time=adverb("time", "gestern"))))
    assert {
        "the man read the letter yesterday .",
        "yesterday the man read the letter .",
        "the letter was read by the man yesterday .",
        "yesterday the letter was read by the fellow .",
    } <= found
    give = Clause(verb("give", "ditransitive"), noun("teacher"), noun("book"), noun("child"), negated=True)
    assert {
        "the teacher does not give the child the book .",
        "the teacher doesn't hand the book to the kid .",
        "the book isn't given to the child by the teacher .",
    } <= ways(Sentence(give))
    none = Clause(verb("see"), noun("woman"), noun("dog", determiner="indefinite"), negated=True)
    assert {
        "the woman sees no dog .",
        "the woman doesn't see a dog .",
        "no dog is seen by the lady .",
    } <= ways(Sentence(none))


@pytest.mark.parametrize(
    "base, forms",
    [
        ("look for", "looks for/looked for/looked for/looking for"),
        ("carry", "carries/carried/carried/carrying"),
        ("spot", "spots/spotted/spotted/spotting"),
        ("give", "gives/gave/given/giving"),
        ("fix", "fixes/fixed/fixed/fixing"),
        ("play", "plays/played/played/playing"),
        ("be", "is/was/been/being"),
    ],
)
def test_english_verbs(base, forms):
    assert [inflect(base, form) for form in ("third", "past", "participle", "ing")] == forms.split("/")


def test_english_plurals():
    assert [plural(word) for word in ("lady", "boy", "church", "box", "grand piano")] == [
        "ladies", "boys", "churches", "boxes", "grand pianos",
    ]  # fmt: skip

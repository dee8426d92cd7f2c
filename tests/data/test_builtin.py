import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest

from softbellman.data import (
    BatchIterator,
    builtin_dataset,
    generate_builtin,
    generate_scenes,
    load_dataset,
    read_parallel,
)
from softbellman.data.builtin import Difficulty
from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.english import inflect
from softbellman.data.builtin.lexicon import build_lexicon
from softbellman.data.builtin.sampler import Sampler
from softbellman.data.builtin.source import say_source
from softbellman.data.builtin.target import Chooser, say_target

SMALL = {"pairs": 1200, "dev_pairs": 60, "test_pairs": 200}

# sha256 of the text of seed 1, SMALL, difficulty 3. It changes with the grammar, and with nothing else.
GOLDEN = "c6813df71bf31e53bb7fb85ef8bcde8f9ccb6ce2675beb3f917deab5119585a4"

# `fast` is an adverb too; `place` and `asleep` belong to `take place` and `fall asleep`.
AUXILIARIES = {"have", "has", "had", "is", "are", "was", "were", "be", "been", "like", "likes"}
LEFT_OUT = AUXILIARIES | {"not", "to", "in", "fast", "place", "asleep"}


@pytest.fixture(scope="module")
def splits():
    return generate_builtin(**SMALL)


def digest(splits):
    text = json.dumps(
        {name: [split.sources, split.references] for name, split in splits.items()}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def classes(difficulty):
    """Target words to the class of words that may translate the same source words."""
    parent = {}

    def find(word):
        while parent.setdefault(word, word) != word:
            word = parent[word]
        return word

    def join(words):
        first, *others = words
        for other in others:
            parent[find(other)] = find(first)

    lexicon = build_lexicon(Difficulty.of(difficulty))
    for ranked in lexicon.nouns.values():
        for entry in ranked.entries:
            # Head words of compounds belong with the head, modifiers stand for themselves.
            join([form.split()[-1] for pair in entry.targets for form in pair])
    for ranked in lexicon.verbs.values():
        for entry in ranked.entries:
            forms = ("base", "third", "past", "participle", "ing")
            join([inflect(target, form).split()[0] for target in entry.targets for form in forms])
    for ranked in lexicon.adjectives.values():
        for entry in ranked.entries:
            join(list(entry.targets))
    names = {entry.word for ranked in (lexicon.names, lexicon.towns) for entry in ranked.entries}
    return {word: find(word) for word in list(parent)} | {name: name for name in names}


def meaning(tokens, words):
    """The classes of the content words of a target sentence."""
    return frozenset(words[token] for token in tokens if token in words) - {
        words.get(word) for word in LEFT_OUT
    }


def test_deterministic(splits):
    assert digest(generate_builtin(**SMALL)) == digest(splits)
    assert digest(generate_builtin(**SMALL, seed=2)) != digest(splits)


def test_the_text_is_the_same_on_every_machine(splits):
    assert digest(splits) == GOLDEN


def test_a_whole_difficulty_is_the_same_as_an_integer():
    sizes = {"pairs": 5, "dev_pairs": 2, "test_pairs": 2}
    whole = generate_builtin(difficulty=3, **sizes)
    assert whole == generate_builtin(difficulty=3.0, **sizes) == generate_builtin(**sizes)
    data = builtin_dataset(difficulty=3, min_frequency=1, **sizes)
    assert data.train == builtin_dataset(difficulty=3.0, min_frequency=1, **sizes).train
    for generate in (generate_builtin, generate_scenes):
        with pytest.raises(TypeError, match="integer"):
            generate(seed=1.0)


def test_sizes_and_lengths(splits):
    assert {name: len(split) for name, split in splits.items()} == {"train": 1200, "dev": 60, "test": 200}
    for split in splits.values():
        for source, group in zip(split.sources, split.references, strict=True):
            assert 5 <= len(source) <= 20
            assert all(5 <= len(reference) <= 20 for reference in group)
            for token in [*source, *group[0]]:
                assert token.isascii() and token == token.lower() and " " not in token


def test_dev_and_test_do_not_depend_on_the_training_size(splits):
    fewer = generate_builtin(**{**SMALL, "pairs": 200})
    assert (fewer["dev"], fewer["test"]) == (splits["dev"], splits["test"])
    assert fewer["train"].sources == splits["train"].sources[:200]
    several = generate_builtin(**{**SMALL, "pairs": 200}, train_references=3)
    assert [group[:1] for group in several["train"].references] == fewer["train"].references


@pytest.mark.parametrize("difficulty", [1.0, 3.0])
def test_splits_are_disjoint(difficulty):
    # Difficulty 1 repeats itself, so that overlaps would occur if nothing prevented them.
    splits = generate_builtin(pairs=1500, dev_pairs=200, test_pairs=200, difficulty=difficulty)
    keys = {name: [tuple(tokens) for tokens in split.sources] for name, split in splits.items()}
    assert len(set(keys["dev"])) == 200 and len(set(keys["test"])) == 200
    assert not set(keys["train"]) & (set(keys["dev"]) | set(keys["test"]))
    assert not set(keys["dev"]) & set(keys["test"])


@pytest.mark.parametrize("difficulty", [1.0, 3.0, 5.0])
def test_references_are_distinct_and_share_the_meaning(difficulty):
    splits = generate_builtin(pairs=1, dev_pairs=1, test_pairs=250, difficulty=difficulty)
    words = classes(difficulty)
    sizes = Counter()
    for group in splits["test"].references:
        assert len({tuple(reference) for reference in group}) == len(group)
        assert len({meaning(reference, words) for reference in group}) == 1, group
        assert len(meaning(group[0], words)) >= 1
        sizes[len(group)] += 1
    assert max(sizes) == 4 and sizes[4] > 100


def test_one_source_sentence_has_one_meaning():
    # A language of core words and short clauses repeats itself: wherever a source sentence comes again, its
    # context must have decided every ambiguous word in the same way, so that the usual translation is the
    # same too.
    settings = replace(
        Difficulty.of(1.0), modifier=0.05, subordinate=0.0, relative=0.0, movement=0.0, ambiguity=0.0
    )
    lexicon = build_lexicon(settings)
    sampler = Sampler(lexicon, settings, Draws("one meaning"))
    found, counts = defaultdict(set), Counter()
    for _ in range(8000):
        sentence = sampler.sentence()
        source = tuple(say_source(sentence))
        counts[source] += 1
        found[source].add(" ".join(say_target(sentence, Chooser())))
    assert sum(count > 1 for count in counts.values()) > 30
    assert [group for group in found.values() if len(group) > 1] == []


def test_ambiguous_words_get_every_translation(splits):
    def targets(word):
        return [
            " ".join(group[0])
            for source, group in zip(splits["train"].sources, splits["train"].references, strict=True)
            if word in source
        ]

    for word, senses in {
        "schlange": ({"snake", "serpent"}, {"queue", "line"}),
        "blatt": ({"leaf"}, {"sheet"}),
        "schwere": ({"heavy"}, {"difficult", "hard"}),
        "bank": ({"bench"}, {"bank"}),
    }.items():
        found = [set(sentence.split()) for sentence in targets(word)]
        for sense in senses:
            assert any(sense & sentence for sentence in found), (word, sense)


def test_share_of_sentences_with_an_ambiguous_word(splits):
    lexicon = build_lexicon(Difficulty.of(3.0))
    forms = set(lexicon.ambiguous_nouns)
    share = sum(any(token in forms for token in source) for source in splits["train"].sources) / len(
        splits["train"]
    )
    assert share > 0.1


def test_agreement(splits):
    """Invariants of both sides that one can see without parsing."""
    singular = {
        "is",
        "was",
        "has",
        "does",
        "isn't",
        "wasn't",
        "doesn't",
        "hasn't",
        "wants",
        "likes",
        "enjoys",
    }
    plural = {"are", "were", "have", "do", "aren't", "weren't", "don't", "haven't", "want", "like", "enjoy"}
    articles = {"m": {"die", "das", "eine", "jede"}, "f": {"den", "dem", "das", "einen", "jeden"}}
    gender = defaultdict(set)
    lexicon = build_lexicon(Difficulty.of(3.0))
    for ranked in lexicon.nouns.values():
        for entry in ranked.entries:
            gender[entry.source].add(entry.gender)
            gender[entry.source_plural].add("p")
    checked = Counter()
    for split in splits.values():
        for source, group in zip(split.sources, split.references, strict=True):
            for article, token in pairwise(source):
                for kind, wrong in articles.items():
                    if gender.get(token) == {kind}:
                        checked["article"] += 1
                        assert article not in wrong, source
            for reference in group:
                for before, token, after in zip(reference, reference[1:], reference[2:], strict=False):
                    if token in ("he", "she", "it") and before not in ("does", "did"):
                        checked["pronoun"] += after in singular
                        assert after not in plural or before in plural | singular | {"will"}, reference
                    if token == "they":
                        checked["pronoun"] += after in plural
                        assert after not in singular, reference
                    if before in ("a", "an"):
                        assert (before == "an") == (token[0] in "aeiou"), reference
                    if before in ("does", "did", "doesn't", "didn't", "don't") and token != "not":
                        assert not token.endswith("ed") or token in {"need", "feed"}, reference
    assert checked["article"] > 300 and checked["pronoun"] > 20


def test_subordinate_clauses_end_in_the_finite_verb(splits):
    """After `weil` and its like nothing but a comma or the end follows the finite verb."""
    lexicon = build_lexicon(Difficulty.of(3.0))
    finite = {"hat", "haben", "ist", "sind", "wird", "werden"}
    for stem in ["kann", "koennen", "muss", "muessen", "will", "wollen", "darf", "duerfen", "soll", "sollen"]:
        finite.add(stem)
    for stem in ("konnte", "musste", "wollte", "durfte", "sollte"):
        finite |= {stem, stem + "n"}
    for ranked in lexicon.verbs.values():
        for entry in ranked.entries:
            finite |= {entry.particle + entry.third, entry.particle + entry.infinitive}
    connectives = {entry.source for entry in lexicon.connectives}
    checked = 0
    for source in splits["train"].sources:
        if source[0] in connectives:
            # The main clause follows with its finite verb first.
            comma = max(
                k
                for k, token in enumerate(source)
                if token == "," and source[k + 1] in finite | main_forms(lexicon)
            )
            assert source[comma - 1] in finite, source
            checked += 1
        elif any(token in connectives for token in source):
            assert source[-2] in finite, source
            checked += 1
    assert checked > 50


def main_forms(lexicon):
    return {
        form for ranked in lexicon.verbs.values() for v in ranked.entries for form in (v.third, v.infinitive)
    }


def test_difficulty_grows():
    levels = [Difficulty.of(level) for level in (1.0, 2.0, 3.5, 5.0)]
    for easy, hard in pairwise(levels):
        assert all(getattr(hard, name) >= getattr(easy, name) for name in vars(easy))
    sizes = [
        len(
            {
                token
                for source in generate_builtin(pairs=300, dev_pairs=1, test_pairs=1, difficulty=level)[
                    "train"
                ].sources
                for token in source
            }
        )
        for level in (1.0, 3.0, 5.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_rare_words_reach_the_test_set(splits):
    data = builtin_dataset(**SMALL)
    unknown = data.source_vocabulary.unknown_rate(splits["test"].sources)
    assert 0.01 < unknown < 0.3


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"difficulty must lie in 1\.\.5, got 0"):
        generate_builtin(difficulty=0)
    with pytest.raises(ValueError, match="test_pairs must be at least 1"):
        generate_builtin(test_pairs=0)


def test_the_dataset_equals_the_written_files(splits, tmp_path):
    data = builtin_dataset(**SMALL)
    splits["train"].write(tmp_path, "train")
    text = read_parallel(tmp_path / "train.source", tmp_path / "train.target")
    assert text.sources == data.train.source_texts
    assert text.references == data.train.reference_texts
    assert data.test.reference_texts == [
        [" ".join(tokens) for tokens in group] for group in splits["test"].references
    ]
    assert data.target_vocabulary.decode(data.train.references[0][0]) == [
        token if token in data.target_vocabulary else "<unk>" for token in splits["train"].references[0][0]
    ]
    batch = next(BatchIterator(data.test, batch_size=16).epoch(0))
    assert batch.references.shape[:2] == (16, 4)


def test_files_of_several_references_hold_them_all(splits, tmp_path):
    data = builtin_dataset(**SMALL)
    for name, file in (("train", "train"), ("dev", "val"), ("test", "test")):
        splits[name].write(tmp_path, file, source="de", target="en")
    assert {path.name for path in tmp_path.glob("test.*")} == {"test.de", *(f"test.en{k}" for k in range(4))}
    read = load_dataset(tmp_path, source_language="de", target_language="en")
    assert (read.train, read.dev, read.test) == (data.train, data.dev, data.test)
    assert read.source_vocabulary == data.source_vocabulary
    assert read.target_vocabulary == data.target_vocabulary
    assert len({len(group) for group in data.test.references}) > 1  # so that some lines are empty

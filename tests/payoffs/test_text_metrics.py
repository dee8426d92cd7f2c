"""CIDEr-D, ROUGE-L and chrF from strings: the COCO caption tools' figures, a scorer of its own on words, odd input."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import get_args, get_type_hints

import pytest
import sacrebleu

from payoffs.payoff_cases import CAPTIONS, CIDER_SCORES, ROUGE_SCORES
from softbellman.data.scenes.generator import generate_split
from softbellman.payoffs.text_metrics import cider_scores, corpus_chrf, mean, rouge_l_scores
from softbellman.report.titles import METRIC_TITLES
from softbellman.training.evaluation import (
    METRICS,
    TEXT_METRICS,
    corpus_bleu,
    further_metrics,
    warn_of_tokenised,
)
from softbellman.training.settings import MEAN_PAYOFF, EvaluationSettings

HYPOTHESES = [text for text, _ in CAPTIONS]
REFERENCES = [list(texts) for _, texts in CAPTIONS]
WORDS = EvaluationSettings(tokenize="none")


def n_grams(words, order):
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def cider_by_words(hypotheses, references):
    """CIDEr-D from its definition, on dictionaries of word tuples."""
    documents = Counter()
    for group in references:
        documents.update({gram for text in group for n in range(1, 5) for gram in n_grams(text.split(), n)})

    def vector(text, order):
        counts = n_grams(text.split(), order)
        return {g: c * math.log(len(references) / max(1, documents[g])) for g, c in counts.items()}

    scores = []
    for text, group in zip(hypotheses, references, strict=True):
        total = 0.0
        for other in group:
            gap = max(len(text.split()) - 1, 0) - (len(other.split()) - 1)
            for order in range(1, 5):
                ours, theirs = vector(text, order), vector(other, order)
                product = sum(
                    min(value, theirs.get(g, 0.0)) * theirs.get(g, 0.0) for g, value in ours.items()
                )
                norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                total += math.exp(-(gap**2) / 72) * (product / norm if norm else 0.0)
        scores.append(1000 / 4 * total / len(group))
    return scores


def common(left, right):
    """Length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for i, other in enumerate(right, start=1):
            before, row[i] = row[i], before + 1 if word == other else max(row[i], row[i - 1])
    return row[-1]


def rouge_by_words(hypotheses, references):
    scores = []
    for text, group in zip(hypotheses, references, strict=True):
        words, others = text.split(), [other.split() for other in group]
        precision = max(common(words, other) / max(len(words), 1) for other in others)
        recall = max(common(words, other) / len(other) for other in others)
        below = recall + 1.44 * precision
        scores.append(100 * 2.44 * precision * recall / below if below else 0.0)
    return scores


def random_texts(seed, count=40):
    """Texts of few words; one word in ten is in no other text."""
    draws = random.Random(seed)

    def text(least):
        return " ".join(
            f"rare{draws.random()}" if draws.random() < 0.1 else f"w{int(draws.paretovariate(0.8))}"
            for _ in range(draws.randint(least, 12))
        )

    references = [[text(1) for _ in range(draws.randint(1, 5))] for _ in range(count)]
    # two of three hypotheses are a reference but for its first word
    return [
        group[0].partition(" ")[2] if i % 3 else text(0) for i, group in enumerate(references)
    ], references


def test_strings_score_what_the_coco_tools_say():
    assert cider_scores(HYPOTHESES, REFERENCES) == pytest.approx([100 * s for s in CIDER_SCORES], rel=1e-13)
    assert rouge_l_scores(HYPOTHESES, REFERENCES) == pytest.approx([100 * s for s in ROUGE_SCORES], rel=1e-13)
    found = further_metrics(("cider", "rouge_l"), HYPOTHESES, REFERENCES, WORDS)
    assert found == pytest.approx({"cider": sum(CIDER_SCORES) / 0.06, "rouge_l": sum(ROUGE_SCORES) / 0.06})


@pytest.mark.parametrize("seed", range(3))
def test_against_a_scorer_on_words(seed, monkeypatch):
    monkeypatch.setattr("softbellman.payoffs.text_metrics._CHUNK", 7)  # several chunks, one corpus
    hypotheses, references = random_texts(seed)
    found = cider_scores(hypotheses, references)
    assert found == pytest.approx(cider_by_words(hypotheses, references), rel=1e-12, abs=1e-12)
    assert rouge_l_scores(hypotheses, references) == pytest.approx(
        rouge_by_words(hypotheses, references), rel=1e-13
    )
    assert 50.0 < mean(found) < 900.0
    order = random.Random(seed).sample(range(40), 40)
    turned = cider_scores([hypotheses[i] for i in order], [references[i][::-1] for i in order])
    assert mean(turned) == pytest.approx(mean(found), rel=1e-14)


def test_random_splits_score_what_the_coco_tools_say():
    cider = pytest.importorskip("pycocoevalcap.cider.cider", reason="pycocoevalcap is not installed")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="pycocoevalcap is not installed")
    for seed in range(5):
        hypotheses, references = random_texts(seed, count=100)
        gold, given = dict(enumerate(references)), {i: [text] for i, text in enumerate(hypotheses)}
        for scorer, ours in ((cider.Cider(), cider_scores), (rouge.Rouge(), rouge_l_scores)):
            whole, single = scorer.compute_score(gold, given)
            found = ours(hypotheses, references)
            assert found == pytest.approx([100 * score for score in single], rel=1e-12, abs=1e-12)
            assert mean(found) == pytest.approx(100 * whole, rel=1e-12)


def test_unknown_words_are_words():
    references = [["a zebra runs"], ["a dog sits"]]
    assert rouge_l_scores(["a zebra runs", "a gnu sits"], references) == [100.0, pytest.approx(200 / 3)]
    known, other = cider_scores(["a zebra runs", "a gnu runs"], references)
    assert known > 700 > 100 > other  # of three words no 4-gram


def test_tokeniser_and_case():
    references = [["A dog runs."], ["the cat sits ."]]
    assert rouge_l_scores(["A dog runs .", "the cat sits."], references, tokenize="13a") == [100.0, 100.0]
    assert max(rouge_l_scores(["A dog runs .", "the cat sits."], references)) < 80
    assert rouge_l_scores(["a DOG runs."], references[:1], lowercase=True) == [100.0]
    settings = EvaluationSettings(tokenize="13a")
    assert further_metrics(("rouge_l",), ["A dog runs .", "the cat sits."], references, settings) == {
        "rouge_l": 100.0
    }


def test_chrf_is_sacrebleus_on_groups_of_any_size():
    found = further_metrics(("chrf",), HYPOTHESES, REFERENCES, WORDS)
    streams = [[group[i] if i < len(group) else None for group in REFERENCES] for i in range(3)]
    assert found == {"chrf": sacrebleu.corpus_chrf(HYPOTHESES, streams).score}


def test_empty_texts():
    assert cider_scores([], []) == [] and mean([]) == 0.0
    references = [["", "a dog", " "], ["the cat"]]
    assert cider_scores(["", "the cat"], references) == cider_scores(
        ["", "the cat"], [["a dog"], ["the cat"]]
    )
    with pytest.raises(ValueError, match="hypothesis 2 has no reference that holds a word"):
        rouge_l_scores(["a", "b"], [["a"], ["", " "]])
    with pytest.raises(ValueError, match="there are 1 hypotheses, but references of 2"):
        cider_scores(["a"], references)


def test_an_empty_reference_is_absent_for_every_metric():
    """A line of two references of which the second is empty scores as with the first alone."""
    hypotheses = ["a b c d e", "x"]
    absent, empty = ([["a b c d e", "a b c d f"], ["x y z w q", *more]] for more in ([], [" "]))
    assert corpus_bleu(hypotheses, empty).score == pytest.approx(51.34, abs=0.005)
    for score in (corpus_bleu, corpus_chrf, cider_scores, rouge_l_scores):
        assert score(hypotheses, empty) == score(hypotheses, absent)
    for score in (corpus_bleu, corpus_chrf, cider_scores, rouge_l_scores):
        with pytest.raises(ValueError, match="hypothesis 2 has no reference that holds a word"):
            score(hypotheses, [["a"], ["", " "]])


@pytest.mark.parametrize("references", [[["a dog"]], [["a dog"], ["a dog"]]])
def test_cider_of_nothing_but_common_words_warns(references, caplog):
    assert cider_scores(["a dog"] * len(references), references) == [0.0] * len(references)
    assert "CIDEr-D says nothing here and is 0" in caplog.text
    assert f"each is in those of all {len(references)}" in caplog.text


def test_a_tokeniser_that_is_left_to_the_data_is_no_tokeniser():
    for name in ("bleu_orders", "cider", "rouge_l"):
        with pytest.raises(ValueError, match=r"evaluation\.tokenize is auto"):
            further_metrics((name,), HYPOTHESES, REFERENCES, EvaluationSettings())


def test_tokenised_text_that_a_run_tokenises_again_warns(caplog):
    tokenised, raw = [["a dog runs ."]] * 100, [["a dog runs."]] * 100
    for references, tokenize in ((raw, "13a"), (tokenised, "none"), (tokenised[1:], "13a")):
        warn_of_tokenised(references, tokenize)
    assert not caplog.records
    warn_of_tokenised(tokenised, "13a")
    assert "100 validation lines end in a tokenised period" in caplog.text


def test_every_metric_that_can_be_asked_for_exists():
    (choices, _) = get_args(get_type_hints(EvaluationSettings)["metrics"])
    assert set(get_args(choices)) == {*METRICS, MEAN_PAYOFF}
    selecting = set(get_args(get_type_hints(EvaluationSettings)["select_by"]))
    assert selecting == {"bleu", *get_args(choices)} - {"bleu_orders"}
    assert (*TEXT_METRICS, "truth") == METRICS
    scenes = generate_split("test", count=len(HYPOTHESES)).scenes
    found = further_metrics(METRICS, HYPOTHESES, REFERENCES, WORDS, scenes=scenes)
    assert found.keys() | {MEAN_PAYOFF} == METRIC_TITLES.keys()


def test_truth_is_of_scenes_alone():
    with pytest.raises(
        ValueError, match=r"the metric truth is of captions of scenes; it needs data\.kind: scenes"
    ):
        further_metrics(("truth",), HYPOTHESES, REFERENCES, WORDS)
    split = generate_split("test", count=20)
    told, other = (
        [group[0] for group in captions]
        for captions in (split.captions, split.captions[1:] + split.captions[:1])
    )
    found = [
        further_metrics(("truth",), texts, split.captions, WORDS, scenes=split.scenes)
        for texts in (told, other)
    ]
    assert found[0]["truth"] == found[0]["truth_readable"] == 100.0 == found[1]["truth_readable"]
    assert found[1]["truth"] < 20.0 and 0 < found[0]["truth_relating"] < 100.0

"""Payoffs that are no kernel, and sums: rewards of prefixes and of the end, their unit, terms and settings."""

from __future__ import annotations

import itertools
import math

import pytest
import sacrebleu
import torch

from softbellman.core.objects import given_object
from softbellman.data import EOS, UNK
from softbellman.payoffs.payoff import PayoffSettings, describe_payoff, prepare_payoff
from softbellman.payoffs.scorers import scorer
from softbellman.payoffs.text_metrics import corpus_ter
from softbellman.payoffs.text_scores import chrf_scores, ter_scores

CPU = torch.device("cpu")
WORDS = ["<pad>", "<unk>", "<bos>", "<eos>", "a", "dog", "runs", "in", "the", "snow", "cats"]
CORPUS = [[[4, 5, 6, 7, 8, 9], [8, 5, 6]], [[8, 10, 6]], [[4, UNK, 6, 5]]]


def decode(ids):
    return " ".join(WORDS[index] for index in ids)


def batch():
    """Two hypotheses of each source: a copy of its first reference with an end; a sequence cut off before any."""
    rows = [[[*group[0], EOS], [4, 5, 6, 5]] for group in CORPUS]
    wide = max(len(row) for pair in rows for row in pair)
    tokens = torch.tensor([[row + [0] * (wide - len(row)) for row in pair] for pair in rows])
    lengths = torch.tensor([[len(row) for row in pair] for pair in rows])
    references = torch.zeros(3, 2, 6, dtype=torch.long)
    reference_lengths = torch.zeros(3, 2, dtype=torch.long)
    for index, group in enumerate(CORPUS):
        for k, words in enumerate(group):
            references[index, k, : len(words)], reference_lengths[index, k] = torch.tensor(words), len(words)
    return tokens, references, {"hypothesis_lengths": lengths, "reference_lengths": reference_lengths}


def prepare(function=None, **settings):
    given = None
    if function is not None:
        given = given_object(function)
        settings["metric"] = given.name
    return prepare_payoff(
        PayoffSettings(**settings), CORPUS, device=CPU, eos_id=EOS, unknown_id=UNK, decode=decode, given=given
    )


def rewards_of(payoff, **more):
    tokens, references, given = batch()
    return payoff.rewards(tokens, references, **given, dtype=torch.float64, **more)


def score_by_hand(metric, text, group):
    if metric == "chrf":
        return sacrebleu.sentence_chrf(text, group).score / 100
    return 1 - sacrebleu.sentence_ter(text, group).score / 100


@pytest.mark.parametrize("references", ["one", "all"])
@pytest.mark.parametrize("metric", ["chrf", "ter"])
def test_rewards_are_differences_of_sacrebleus_scores(metric, references):
    """Written out: every prefix as a text, against the texts of its references, times their mean length."""
    found = rewards_of(prepare(metric=metric, references=references, unknown_matches=True))
    tokens, _, given = batch()
    for source, group in enumerate(CORPUS):
        used = group if references == "all" else group[:1]
        texts, length = [decode(words) for words in used], sum(map(len, used)) / len(used)
        for sample in range(2):
            row = tokens[source, sample, : given["hypothesis_lengths"][source, sample]].tolist()
            words = row[:-1] if row[-1] == EOS else row
            scores = [
                0.0,
                *(score_by_hand(metric, decode(words[:end]), texts) for end in range(1, len(words) + 1)),
            ]
            wanted = [length * (after - before) for before, after in itertools.pairwise(scores)]
            wanted += [0.0] * (tokens.shape[2] - len(wanted))
            assert found[source, sample].tolist() == pytest.approx(wanted, abs=1e-9)
    copies = found[:, 0].sum(-1)
    if references == "one":
        assert copies.tolist() == pytest.approx([len(group[0]) for group in CORPUS])


@pytest.mark.parametrize("metric", ["chrf", "ter"])
def test_an_unknown_word_matches_none(metric):
    copy = (slice(2, 3), slice(0, 1))
    assert rewards_of(prepare(metric=metric, unknown_matches=True))[copy].sum() == pytest.approx(4.0)
    assert rewards_of(prepare(metric=metric))[copy].sum() < 3.5


def test_the_end_is_paid_at_the_last_token():
    for metric in ("bleu", "rouge_l", "chrf", "ter"):
        spread, ended = rewards_of(prepare(metric=metric)), rewards_of(prepare(metric=metric, rewards="end"))
        torch.testing.assert_close(ended.sum(-1), spread.sum(-1))
        last = batch()[2]["hypothesis_lengths"] - 1
        torch.testing.assert_close(ended.gather(-1, last[..., None]).squeeze(-1), spread.sum(-1))
        assert (ended != 0).sum() <= 6 and prepare(metric=metric, rewards="end").pays_at_end
        assert not prepare(metric=metric).pays_at_end


def test_a_function_is_shown_texts_and_asked_once_for_the_end():
    asked = []

    def share(hypotheses, references):
        asked.extend(zip(hypotheses, references, strict=True))
        return [
            len(set(text.split()) & set(group[0].split())) / 4
            for text, group in zip(hypotheses, references, strict=True)
        ]

    payoff = prepare(share, rewards="end", scale="none", references="all")
    found = rewards_of(payoff)
    assert found[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 6 / 4] and found[1, 1, 3] == 1 / 4
    assert ("a dog runs in the snow", ["a dog runs in the snow", "the dog runs"]) in asked
    assert ("a <unk> runs dog", ["a <unk> runs dog"]) in asked and len(asked) == 6
    asked.clear()
    assert rewards_of(prepare(share, scale="none"))[0, 0].tolist() == [0.25] * 6 + [0]
    assert len(asked) == (6 + 1) + (3 + 4) + (
        4 + 3
    )  # prefixes that two hypotheses of a source share are asked once


def test_a_scorer_of_prefixes_is_asked_once():
    calls = []

    @scorer(reads="tokens", per="prefix")
    def right(hypotheses, references):
        calls.append(len(hypotheses))
        return [
            [
                sum(own == wanted for own, wanted in zip(words[:end], group[0], strict=False))
                for end in range(1, len(words) + 1)
            ]
            for words, group in zip(hypotheses, references, strict=True)
        ]

    found = rewards_of(prepare(right, scale="none"))
    assert calls == [6] and found[0, 0].tolist() == [1] * 6 + [0] and found[1, 1].tolist()[:4] == [0, 0, 1, 0]
    ended = rewards_of(prepare(right, scale="none", rewards="end"))
    torch.testing.assert_close(ended.sum(-1), found.sum(-1))


def test_a_scorer_may_decide_when_it_is_paid():
    @scorer(rewards="end")
    def constant(hypotheses, references):
        return [1.0] * len(hypotheses)

    payoff = prepare(constant, scale="none")
    assert payoff.pays_at_end and rewards_of(payoff)[0, 0].tolist() == [0.0] * 6 + [1.0]


def test_a_sum_is_the_weighted_sum_of_its_terms():
    chosen = {"references": "all", "max_order": 3}
    parts = {"bleu": 0.5, "cider": 0.25, "chrf": -2.0}
    terms = tuple(f"{metric}={weight}" for metric, weight in parts.items())
    payoff = prepare(metric="sum", terms=terms, **chosen)
    wanted = torch.zeros(())
    for metric, weight in parts.items():
        own = {key: value for key, value in chosen.items() if metric != "chrf" or key == "references"}
        wanted = wanted + weight * rewards_of(prepare(metric=metric, **own))
    torch.testing.assert_close(rewards_of(payoff), wanted)
    torch.testing.assert_close(
        rewards_of(payoff, scaled=False)[0].sum(-1) * 4.5, rewards_of(payoff)[0].sum(-1)
    )
    assert rewards_of(payoff).dtype == torch.float64
    assert len(payoff.digest()) == 64 != prepare(metric="sum", terms=("chrf=1",)).digest()
    with pytest.raises(ValueError, match=r"values of completions are of payoff\.metric bleu alone, got sum"):
        payoff.completions(*batch()[:2], **batch()[2], vocabulary=11, special_ids=(0, 2))


def test_terms_of_a_sum_keep_their_own_time(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "class One:\n    rewards = 'end'\n    def __call__(self, h, r):\n        return [1.0] * len(h)\n"
    )
    payoff = prepare(metric="sum", terms=("bleu=1", f"{path}:One=0.5"), scale="none")
    dense, found = rewards_of(prepare(metric="bleu", scale="none")), rewards_of(payoff)
    last = batch()[2]["hypothesis_lengths"][..., None] - 1
    torch.testing.assert_close(found, dense + torch.zeros_like(dense).scatter(-1, last, 0.5))
    assert [one.path for one in payoff.objects] == [str(path)] and str(path) in payoff.describe()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metric": "blue"}, "payoff.metric must be one of bleu, .*got 'blue'; nearest: 'bleu'"),
        ({"metric": "sum"}, "payoff.metric is sum, but payoff.terms is empty"),
        (
            {"metric": "sum", "terms": ("bleu",)},
            "payoff.terms must be METRIC=WEIGHT with a finite weight .*got 'bleu'",
        ),
        ({"metric": "sum", "terms": ("bleu=0",)}, "finite weight other than 0, got 'bleu=0'"),
        ({"metric": "sum", "terms": ("bleu=nan",)}, "finite weight"),
        ({"metric": "sum", "terms": ("sum=1",)}, "payoff.terms must be one of"),
    ],
)
def test_settings_that_make_no_payoff(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        PayoffSettings(**settings)


def test_keys_without_a_use_are_refused():
    for settings, sentence in (
        ({"terms": ("bleu=1",)}, "payoff.terms is of payoff.metric sum alone"),
        ({"workers": 2}, "payoff.workers is of chrf, ter and metrics of your own, got 2 with bleu"),
        (
            {"metric": "sum", "terms": ("bleu=1", "chrf=1"), "sigma": 3.0},
            "payoff.sigma is of payoff.metric cider alone",
        ),
        (
            {"metric": "ter", "max_order": 2},
            "payoff.max_order is of payoff.metric bleu and cider alone, got 2 with ter",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            PayoffSettings(**settings).check_keys({})
    PayoffSettings(metric="sum", terms=("cider=1", "chrf=1"), sigma=3.0, workers=2).check_keys({})


def test_payoffs_in_words():
    settings = PayoffSettings(
        metric="sum", terms=("bleu=0.7", "./my.py:f=0.3"), rewards="end", references="all"
    )
    assert (
        describe_payoff(settings)
        == "0.7 sentence BLEU + 0.3 ./my.py:f against all references times the reference length, paid at the end"
    )
    assert describe_payoff(PayoffSettings(metric="ter", scale="none")) == "1 - TER against one reference"


def test_texts_need_a_decoder():
    with pytest.raises(ValueError, match="payoff chrf reads texts, which needs decode="):
        prepare_payoff(PayoffSettings(metric="chrf"), CORPUS, device=CPU, eos_id=EOS, unknown_id=UNK)


def test_scores_of_texts_and_of_splits_are_sacrebleus():
    hypotheses = ["the dog runs", "a cat", ""]
    references = [["the dog runs fast", "dogs run"], ["a cat"], ["something"]]
    for index, (text, group) in enumerate(zip(hypotheses, references, strict=True)):
        assert chrf_scores(hypotheses, references)[index] == score_by_hand("chrf", text, group)
        assert ter_scores(hypotheses, references)[index] == score_by_hand("ter", text, group)
    assert chrf_scores(["a"], [[]]) == ter_scores(["a"], [[]]) == [0.0]
    single = [group[:1] for group in references]
    wanted = sacrebleu.corpus_ter(hypotheses, [[group[0] for group in single]]).score
    assert corpus_ter(hypotheses, single) == wanted and math.isfinite(wanted) and wanted > 0
    assert corpus_ter(["dogs run", "a cat"], references[:2]) == 0.0  # of several references the nearest

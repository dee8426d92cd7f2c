"""The payoff of a run: one unit for three metrics, rewards that add up, frequencies that are kept."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import softbellman as ops
from softbellman import config, reference
from softbellman.data import BOS, EOS, PAD, RESERVED, UNK, collate
from softbellman.payoffs.payoff import Payoff, describe_payoff, prepare_payoff
from softbellman.training.edited import edit_references
from softbellman.training.settings import PRESETS, EditSettings, PayoffSettings, Settings

CPU = torch.device("cpu")
METRICS = ("bleu", "cider", "rouge_l")


class Captions:
    """Eight sources of one to three references each, UNK among their words."""

    special = RESERVED

    def __init__(self, sources: int = 8) -> None:
        generator = torch.Generator().manual_seed(3)

        def draw(low: int, high: int, size: tuple[int, ...] = (1,)) -> list[int]:
            return torch.randint(low, high, size, generator=generator).tolist()

        self.references = [
            [draw(4, 12, (draw(4, 8)[0],)) for _ in range(draw(1, 4)[0])] for _ in range(sources)
        ]
        self.references[0][0][1] = UNK

    def __len__(self) -> int:
        return len(self.references)

    def source_batch(self, indices):
        return torch.zeros(len(indices), 1)


@pytest.fixture(scope="module")
def corpus():
    return Captions()


def prepare(tmp_path, corpus, **settings):
    return prepare_payoff(
        PayoffSettings(**settings), corpus.references, device=CPU, eos_id=EOS, unknown_id=UNK
    )


def batch_of(corpus):
    return collate(corpus, [(index, 0) for index in range(len(corpus))])


def hypotheses_of(batch):
    """Three of each source: the target and its end, the target's beginning twice, somebody else's target."""
    target = batch.labels
    half = target[:, :3].repeat(1, 4)[:, : target.shape[1]]
    tokens = torch.stack([target, half, target.roll(1, 0)], dim=1)
    lengths = torch.stack([batch.mask.sum(1), torch.full((len(batch),), 6), batch.mask.sum(1).roll(1)], dim=1)
    return tokens, lengths


@pytest.mark.parametrize("references", ["one", "all"])
@pytest.mark.parametrize("metric", METRICS)
def test_rewards_add_up_to_the_score_times_the_length(tmp_path, corpus, metric, references):
    batch = batch_of(corpus)
    tokens, lengths = hypotheses_of(batch)
    kept = slice(0, 1) if references == "one" else slice(None)
    against, against_lengths = batch.references[:, kept], batch.reference_lengths[:, kept]
    own = {"rouge_l": {"beta": 2.0}, "cider": {"sigma": 4.0, "max_order": 3}, "bleu": {"smoothing": "floor"}}
    chosen = dict(own[metric])
    payoff = prepare(tmp_path, corpus, metric=metric, references=references, **chosen)
    if metric == "cider":
        chosen["frequencies"] = reference.DocumentFrequencies.from_references(
            batch.references,
            reference_lengths=batch.reference_lengths,
            max_order=chosen.pop("max_order"),
            unmatched_id=UNK,
        )
    score = getattr(reference, f"sentence_{metric}")(
        tokens,
        against,
        hypothesis_lengths=lengths,
        reference_lengths=against_lengths,
        eos_id=EOS,
        unmatched_id=UNK,
        dtype=torch.float64,
        **chosen,
    )
    given = {"hypothesis_lengths": lengths, "reference_lengths": batch.reference_lengths}
    rewards = payoff.rewards(tokens, batch.references, **given, dtype=torch.float64)
    plain = payoff.rewards(tokens, batch.references, **given, scaled=False, dtype=torch.float64)
    length = against_lengths.sum(1) / (against_lengths > 0).sum(1)
    torch.testing.assert_close(plain.sum(-1), score / payoff.full_score if metric == "cider" else score)
    torch.testing.assert_close(rewards.sum(-1), plain.sum(-1) * length[:, None])
    assert plain.sum(-1).std() > 0.1
    behind = torch.arange(tokens.shape[-1]) >= lengths[..., None]
    assert (rewards[behind | (tokens == EOS)] == 0).all()
    assert payoff.rewards(tokens, batch.references, **given).dtype == torch.float32


@pytest.mark.parametrize("metric", METRICS)
def test_a_copy_of_the_reference_earns_its_length(tmp_path, corpus, metric):
    payoff = prepare(tmp_path, corpus, metric=metric)
    batch = batch_of(corpus)
    given = {
        "hypothesis_lengths": batch.mask.sum(1, keepdim=True),
        "reference_lengths": batch.reference_lengths,
    }
    earned = payoff.rewards(batch.labels[:, None], batch.references, **given).sum((1, 2))
    lengths = batch.reference_lengths[:, 0].float()
    torch.testing.assert_close(earned[1:], lengths[1:])
    assert earned[0] < lengths[0]  # its <unk> matches nothing
    matching = prepare(tmp_path, corpus, metric=metric, unknown_matches=True)
    torch.testing.assert_close(
        matching.rewards(batch.labels[:, None], batch.references, **given).sum((1, 2)), lengths
    )


def test_cider_against_all_references_is_in_units_of_the_training_captions(tmp_path, corpus):
    payoff = prepare(tmp_path, corpus, metric="cider", references="all", scale="none")
    assert 10 / 3 < payoff.full_score < 10
    pairs = [(index, k) for index, group in enumerate(corpus.references) for k in range(len(group))]
    batch = collate(corpus, pairs)
    earned = payoff.rewards(
        batch.labels[:, None],
        batch.references,
        hypothesis_lengths=batch.mask.sum(1, keepdim=True),
        reference_lengths=batch.reference_lengths,
        dtype=torch.float64,
    ).sum((1, 2))
    assert math.fsum(earned.tolist()) / len(pairs) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("references", ["one", "all"])
def test_frequencies_are_counted_and_kept_alike(tmp_path, corpus, references):
    chosen = {"metric": "cider", "references": references}
    first, again = (prepare(tmp_path, corpus, **chosen) for _ in range(2))
    assert again.digest() == first.digest() and len(first.digest()) == 64
    path = tmp_path / "document_frequencies.safetensors"
    first.save(path)
    assert [kept.name for kept in tmp_path.iterdir()] == [path.name]
    kept = ops.DocumentFrequencies.load(path)
    assert kept.documents == first.frequencies.documents
    assert all(map(torch.equal, kept.counts, first.frequencies.counts))
    other = prepare(tmp_path, Captions(5), **chosen)
    assert other.digest() != first.digest() and other.frequencies.documents == 5
    prepare(tmp_path, corpus).save(tmp_path / "none")  # BLEU has none to keep
    assert not (tmp_path / "none").exists()


def test_a_document_is_a_source_with_all_its_references(tmp_path, corpus):
    counted = prepare(tmp_path, corpus, metric="cider", references="one").frequencies
    word = corpus.references[1][-1][0]
    holding = sum(any(word in tokens for tokens in group) for group in corpus.references)
    assert counted.documents == 8 and counted.count([word]) == holding
    assert counted.count([UNK]) == 0
    assert prepare(tmp_path, corpus, metric="cider", unknown_matches=True).frequencies.count([UNK]) == 1


def test_what_cannot_be_a_payoff_is_named(tmp_path, corpus):
    with pytest.raises(ValueError, match="each is in all of the 1: the payoff is 0"):
        prepare(tmp_path, Captions(1), metric="cider")
    with pytest.raises(ValueError, match=r"frequencies must be given where payoff\.metric is cider"):
        Payoff(PayoffSettings(metric="cider"), eos_id=EOS, unknown_id=UNK)
    with pytest.raises(ValueError, match=r"payoff\.sigma must be above 0"):
        PayoffSettings(sigma=0.0)
    with pytest.raises(ValueError, match=r"payoff\.max_order must lie between 1 and 8, got 9"):
        PayoffSettings(max_order=9)


@pytest.mark.parametrize(
    ("metric", "key", "value", "owners"),
    [
        ("cider", "smoothing", "exp", "bleu"),
        ("rouge_l", "smoothing", "none", "bleu"),
        ("rouge_l", "max_order", "2", "bleu and cider"),
        ("bleu", "sigma", "3.0", "cider"),
        ("cider", "beta", "1.0", "rouge_l"),
    ],
)
@pytest.mark.parametrize("preset", ["paper", "published"])
def test_a_key_of_another_metric_is_refused(metric, key, value, owners, preset):
    pairs = [("preset", preset), ("payoff.metric", metric), (f"payoff.{key}", value)]
    with pytest.raises(
        ValueError, match=rf"payoff\.{key} is of payoff\.metric {owners} alone, got .* with {metric}"
    ):
        config.load(Settings, overrides=pairs, presets={"preset": PRESETS})


@pytest.mark.parametrize("metric", METRICS)
def test_the_published_preset_goes_with_every_metric(metric, tmp_path):
    pairs = [("preset", "published"), ("payoff.metric", metric)]
    settings = config.load(Settings, overrides=pairs, presets={"preset": PRESETS})
    assert settings.payoff.unknown_matches and settings.payoff.metric == metric
    kept = tmp_path / "config.yaml"
    kept.write_text(config.dump(settings))
    assert config.load(Settings, kept) == settings  # as a resumed run reads it


def test_payoffs_in_words():
    assert (
        describe_payoff(PayoffSettings()) == "sentence BLEU against one reference times the reference length"
    )
    settings = PayoffSettings(metric="rouge_l", references="all", scale="none")
    assert describe_payoff(settings) == "ROUGE-L against all references"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("corrected", [True, False])
def test_weights_of_edits_are_those_of_their_payoffs(tmp_path, corpus, metric, corrected):
    """Sequences, densities and, for BLEU, everything else are those of the operators, bit for bit."""
    payoff = prepare(tmp_path, corpus, metric=metric)
    batch = batch_of(corpus)
    edits = EditSettings(samples=4, proposal="edit", temperature=0.5, max_distance=3)
    own = {"vocabulary": 12, "tau": 0.3, "corrected": corrected, "seed": 5, "offset": 2}
    edited = edit_references(batch, edits, payoff, **own)
    drawn = ops.sample_edits(
        batch.labels[:, :-1].contiguous(),
        batch.mask.sum(1) - 1,
        samples=4,
        proposal="edit",
        vocabulary=12,
        seed=5,
        offset=2,
        special_ids=(PAD, BOS, EOS, UNK),
        temperature=0.5,
        max_distance=3,
        keep_gold=True,
        pad_id=PAD,
    )
    rewards = ops.bleu_rewards(
        drawn.tokens,
        batch.references[:, :1],
        hypothesis_lengths=drawn.lengths,
        reference_lengths=batch.reference_lengths[:, :1],
        scale="reference_length" if corrected else "none",
        unmatched_id=UNK,
        dtype=torch.float64,
    )
    weights, size, _ = ops.importance_weights(
        rewards.sum(-1), drawn.log_density, tau=0.3 if corrected else 1.0, corrected=corrected
    )
    width = edited.labels.shape[1]
    assert torch.equal(edited.mask.sum(1) - 1, drawn.lengths.flatten())
    kept = edited.mask & (edited.labels != EOS)
    assert torch.equal(
        edited.labels[kept], torch.nn.functional.pad(drawn.tokens.view(32, -1), (0, 1))[:, :width][kept]
    )
    if metric == "bleu":
        assert torch.equal(edited.weights, weights.float())
        assert torch.equal(edited.effective_sample_size, size)
        assert torch.equal(edited.payoff, rewards.sum(-1).float())
        assert torch.equal(edited.rewards[:, : width - 1], rewards.float().view(32, -1)[:, : width - 1])
    torch.testing.assert_close(edited.rewards.sum(1), edited.payoff.flatten(), rtol=1e-5, atol=1e-5)
    logits = edited.payoff.double() / (0.3 if corrected else 1.0) - drawn.log_density * corrected
    torch.testing.assert_close(edited.weights, logits.softmax(1).float(), rtol=1e-4, atol=1e-6)
    whole = batch.mask.sum(1)[1:].float() - 1 if corrected else torch.ones(7)
    torch.testing.assert_close(edited.payoff[1:, 0], whole)  # the reference itself


def test_settings_of_a_metric_stay_with_it():
    with pytest.raises(ValueError, match=r"payoff\.beta is of payoff\.metric rouge_l alone"):
        replace(Settings(), payoff=PayoffSettings(metric="cider", beta=2.0))

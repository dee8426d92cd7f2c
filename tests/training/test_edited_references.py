"""Weighted edited references on their way into an update."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from softbellman.data import BOS, EOS, PAD, UNK, BatchIterator
from softbellman.payoffs.payoff import Payoff
from softbellman.training.assembly import Assembly
from softbellman.training.edited import SharedRows, edit_references, share_prefixes
from softbellman.training.rollout import real_rows
from softbellman.training.settings import AugmentedStageSettings, DataSettings, EditSettings
from softbellman.training.stages import augmented
from softbellman.training.stages.augmented import choose_sequences
from softbellman.training.task import load_task


@pytest.fixture(scope="module")
def batch():
    task = load_task(DataSettings(pairs=60, dev_pairs=4, test_pairs=4, difficulty=1.0, min_frequency=1))
    return next(BatchIterator(task.train, batch_size=8, seed=3).epoch(0)), len(task.target_codec)


def draw(batch, *, proposal="ngram", tau=0.5, corrected=True, offset=0, **edits):
    batch, vocabulary = batch
    return edit_references(
        batch,
        EditSettings(proposal=proposal, **edits),
        Payoff(eos_id=EOS, unknown_id=UNK),
        vocabulary=vocabulary,
        tau=tau,
        corrected=corrected,
        seed=5,
        offset=offset,
    )


@pytest.mark.parametrize("proposal", ["ngram", "corrupt", "hamming", "edit"])
def test_sequences_are_whole_and_end_with_eos(batch, proposal):
    edited = draw(batch, proposal=proposal, temperature=0.5)
    lengths = edited.mask.sum(1)
    assert (edited.prefix[:, 0] == BOS).all()
    assert torch.equal(edited.prefix[:, 1:], edited.labels[:, :-1])
    assert (edited.labels[torch.arange(len(lengths)), lengths - 1] == EOS).all()
    assert (edited.labels == EOS).sum() == len(lengths)
    assert (edited.labels[~edited.mask] == PAD).all() and not (edited.labels[edited.mask] == PAD).any()
    assert lengths.max() == edited.labels.shape[1]  # nothing but padding is cut
    assert (edited.rewards[~edited.mask] == 0).all()
    torch.testing.assert_close(edited.rewards.sum(1), edited.payoff.flatten(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(edited.weights.sum(1), torch.ones(8))


def test_the_first_sequence_is_the_reference_and_earns_most(batch):
    edited = draw(batch, proposal="corrupt", rate=0.5)
    labels = edited.labels.view(8, 5, -1)
    assert torch.equal(labels[:, 0], batch[0].labels)
    assert (edited.payoff.argmax(1) == 0).all()
    unknown = batch[0].labels == UNK
    assert (labels[unknown[:, None].expand_as(labels)] == UNK).all()


def test_draws_are_a_function_of_the_offset(batch):
    once, again, other = (draw(batch, offset=offset).labels for offset in (4, 4, 5))
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_published_weights_know_neither_temperature_nor_density(batch):
    edited = draw(batch, corrected=False, tau=0.01)
    torch.testing.assert_close(edited.weights, torch.softmax(edited.payoff, 1))
    assert edited.payoff.max() <= 1.0


def test_light_sequences_are_left_out(batch):
    edited = draw(batch, tau=0.3)
    everything = choose_sequences(edited, 0.0)
    assert torch.equal(everything.labels, edited.labels) and torch.equal(everything.rows, edited.rows)
    torch.testing.assert_close(everything.weights, edited.weights.flatten())
    chosen = choose_sequences(edited, 0.2)
    assert 8 <= len(chosen.labels) < 40
    totals = torch.zeros(8).index_add(0, chosen.owner, chosen.weights)
    torch.testing.assert_close(totals, torch.ones(8))
    heavy = edited.weights >= 0.2
    assert torch.equal(chosen.labels, edited.labels.view(8, 5, -1)[heavy])
    kept = edited.weights.masked_fill(~heavy, 0.0)
    torch.testing.assert_close(chosen.weights, (kept / kept.sum(1, keepdim=True))[heavy])


def test_a_threshold_that_could_drop_all_is_refused():
    with pytest.raises(ValueError, match="drop_below must lie between 0 and 1"):
        AugmentedStageSettings(drop_below=0.3)


@pytest.mark.parametrize("dropped", [False, True], ids=["all", "some left out"])
@pytest.mark.parametrize("proposal", ["ngram", "corrupt", "edit"])
def test_equal_prefixes_share_a_row(batch, proposal, dropped):
    edited = draw(batch, proposal=proposal, temperature=0.5)
    count, samples = len(edited.prefix), 5
    kept = torch.arange(count)
    if dropped:
        kept = kept[torch.rand(count, generator=torch.Generator().manual_seed(0)) < 0.6]
    prefix, rows = edited.prefix[kept], real_rows(edited.mask[kept])
    shared = share_prefixes(edited.prefix, rows, samples=samples, kept=kept if dropped else None)

    steps = prefix.shape[1]

    def name(row: int) -> tuple[int, ...]:  # a position's source and prefix
        sequence, step = divmod(row, steps)
        return (int(kept[sequence]) // samples, *prefix[sequence, : step + 1].tolist())

    names = [name(row) for row in rows.tolist()]
    chosen = [name(row) for row in shared.rows.tolist()]
    assert len(set(chosen)) == len(chosen) == len(set(names)) < len(names)
    assert [chosen[state] for state in shared.states.tolist()] == names
    assert set(shared.rows.tolist()) <= set(rows.tolist())


@pytest.mark.parametrize("drop_below", [0.0, 0.15])
@pytest.mark.parametrize("algorithm", ["raml", "vaml"])
def test_an_update_is_that_of_every_sequence_by_itself(tiny_settings, monkeypatch, algorithm, drop_below):
    """Without dropout, where masks do not differ; the state behind the end of the oracle's sequences included."""
    settings = replace(
        tiny_settings,
        algorithm=algorithm,
        actor=replace(tiny_settings.actor, dropout=0.0),
        oracle=replace(tiny_settings.oracle, dropout=0.0, bootstrap_after_end=True),
        augmented=replace(tiny_settings.augmented, oracle_share=0.3, drop_below=drop_below),
    )
    task = load_task(settings.data)
    found = {}
    for way in ("shared", "alone"):
        if way == "alone":
            monkeypatch.setattr(augmented, "share_prefixes", every_row_alone)
        parts = Assembly(settings, task, torch.device("cpu"))
        names = [name for name in parts.stages if name != "actor"]
        for name in names:
            stage = parts.build(name)
            for number, of_corpus in enumerate(parts.train_batches(stage.schedule, name).epoch(0)):
                sums = stage.update(of_corpus, number)
                if number == 2:
                    break
            found.setdefault(way, {}).update({f"{name}/{key}": value for key, value in sums.items()})
        weights = {
            **parts.actor.state_dict(),
            **{f"reader {k}": v for k, v in parts.reader.state_dict().items()},
        }
        found[way].update(weights)
    for key, value in found["alone"].items():
        torch.testing.assert_close(found["shared"][key], value, rtol=2e-4, atol=2e-5, msg=key)


def every_row_alone(_prefix, rows, **_options):
    return SharedRows(rows, torch.arange(len(rows)))

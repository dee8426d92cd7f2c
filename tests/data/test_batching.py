import random

import pytest
import torch

from softbellman.data import BOS, EOS, PAD, BatchIterator, Corpus, collate


def make_corpus(count=157, seed=3, most_references=3):
    draws = random.Random(seed)

    def sentence():
        return [draws.randrange(4, 90) for _ in range(draws.randrange(1, 19))]

    sources = [sentence() for _ in range(count)]
    references = [[sentence() for _ in range(draws.randrange(1, most_references + 1))] for _ in range(count)]
    texts = [["x"] * len(group) for group in references]
    return Corpus(sources, references, ["s"] * count, texts)


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


def trimmed(row):
    return [token for token in row.tolist() if token != PAD]


def test_a_critic_reads_the_target_or_all_references_the_target_first():
    corpus = Corpus([[7, 8], [9]], [[[5], [6, 7, 8]], [[4, 4]]], ["a", "b"], [["x", "y"], ["z"]])
    pairs = [(0, 1), (1, 0)]
    plain = collate(corpus, pairs)
    assert plain.critic_source.tolist() == plain.labels.tolist() == [[6, 7, 8, EOS], [4, 4, EOS, PAD]]
    batch = collate(corpus, pairs, reads="references")
    assert batch.critic_source.tolist() == [[6, 7, 8, EOS, 5, EOS], [4, 4, EOS, PAD, PAD, PAD]]
    assert batch.rows_between(1, 2).critic_source.tolist() == [[4, 4, EOS, PAD, PAD, PAD]]
    assert batch.to("cpu").critic_source.tolist() == batch.critic_source.tolist()
    iterator = BatchIterator(corpus, batch_size=2, shuffle=False, targets="all", reads="references")
    for batch in iterator.epoch(0):
        for read, labels in zip(batch.critic_source, batch.labels, strict=True):
            assert trimmed(read)[: len(trimmed(labels))] == trimmed(labels)
    with pytest.raises(ValueError, match="reads must be 'target' or 'references'"):
        BatchIterator(corpus, batch_size=2, reads="source")


def test_collate_by_hand():
    corpus = Corpus([[7, 8], [9]], [[[5], [6, 7, 8]], [[4, 4]]], ["a", "b"], [["x", "y"], ["z"]])
    batch = collate(corpus, [(1, 0), (0, 1)])
    assert batch.source.tolist() == [[9, EOS, PAD], [7, 8, EOS]]
    assert batch.target.tolist() == [[BOS, 4, 4, EOS, PAD], [BOS, 6, 7, 8, EOS]]
    assert batch.prefix.tolist() == [[BOS, 4, 4, EOS], [BOS, 6, 7, 8]]
    assert batch.labels.tolist() == [[4, 4, EOS, PAD], [6, 7, 8, EOS]]
    assert batch.mask.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.references.tolist() == [[[4, 4, 0], [0, 0, 0]], [[5, 0, 0], [6, 7, 8]]]
    assert batch.reference_lengths.tolist() == [[2, 0], [1, 3]]
    assert batch.index.tolist() == [1, 0]
    assert len(batch) == 2
    assert collate(corpus, [(1, 0), (0, 1)], references="one").references.tolist() == [
        [[4, 4, 0]],
        [[6, 7, 8]],
    ]
    assert all(
        getattr(batch, name).dtype == torch.int64 for name in ("source", "target", "references", "index")
    )


def test_to_moves_every_tensor(corpus):
    moved = collate(corpus, [(0, 0), (1, 0)]).to("meta")
    assert {moved.source.device.type, moved.references.device.type, moved.index.device.type} == {"meta"}


@pytest.mark.parametrize(
    "unit, size", [("sentences", 10), ("sentences", 1), ("sentences", 1000), ("tokens", 60)]
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sentence_once(corpus, unit, size, shuffle):
    iterator = BatchIterator(corpus, batch_size=size, unit=unit, shuffle=shuffle, pool_batches=3)
    for epoch in (0, 5):
        batches = list(iterator.epoch(epoch))
        assert len(batches) == iterator.epoch_length(epoch)
        assert sorted(i for batch in batches for i in batch.index.tolist()) == list(range(len(corpus)))
        for batch in batches:
            for row, i in enumerate(batch.index.tolist()):
                assert trimmed(batch.source[row]) == [*corpus.sources[i], EOS]
                assert trimmed(batch.target[row]) == [BOS, *corpus.references[i][0], EOS]
    assert len(iterator) == iterator.epoch_length(0)


def test_every_pair_once_with_all_targets(corpus):
    iterator = BatchIterator(corpus, batch_size=8, targets="all", references="one")
    found = [
        (i, tuple(batch.references[row, 0, : batch.reference_lengths[row, 0]].tolist()))
        for batch in iterator.epoch(0)
        for row, i in enumerate(batch.index.tolist())
    ]
    expected = [(i, tuple(reference)) for i, group in enumerate(corpus.references) for reference in group]
    assert sorted(found) == sorted(expected)
    assert iterator.examples == len(expected) > len(corpus)


def test_payoff_references(corpus):
    for batch in BatchIterator(corpus, batch_size=8, references="all").epoch(0):
        for row, i in enumerate(batch.index.tolist()):
            lengths = batch.reference_lengths[row].tolist()
            group = [batch.references[row, k, :n].tolist() for k, n in enumerate(lengths) if n > 0]
            assert group == corpus.references[i]


def test_token_budget(corpus):
    iterator = BatchIterator(corpus, batch_size=64, unit="tokens", pool_batches=2)
    batches = list(iterator.epoch(0))
    for batch in batches:
        assert len(batch) * max(batch.source.shape[1], batch.labels.shape[1]) <= 64
    assert max(map(len, batches)) > 3
    # A pair over the budget comes alone.
    alone = BatchIterator(corpus, batch_size=5, unit="tokens")
    assert all(
        len(batch) == 1 or len(batch) * max(batch.source.shape[1], batch.labels.shape[1]) <= 5
        for batch in alone.epoch(0)
    )


def test_sentences_per_batch(corpus):
    sizes = sorted(len(batch) for batch in BatchIterator(corpus, batch_size=10, pool_batches=4).epoch(2))
    assert sizes == [7] + [10] * 15


def order(iterator, epoch, start=0):
    return [batch.index.tolist() for batch in iterator.epoch(epoch, start=start)]


def test_order_is_a_function_of_seed_and_epoch(corpus):
    first, second = (BatchIterator(corpus, batch_size=10, seed=4) for _ in range(2))
    assert order(first, 3) == order(second, 3)
    list(second.epoch(0))  # what was drawn before does not matter
    assert order(second, 3) == order(first, 3)
    assert order(first, 3) != order(first, 4)
    assert order(first, 3) != order(BatchIterator(corpus, batch_size=10, seed=5), 3)


def test_the_order_is_the_same_on_every_machine():
    corpus = make_corpus(count=12)
    assert order(BatchIterator(corpus, batch_size=4, seed=1, pool_batches=2), 0) == [
        [6, 7, 8, 9],
        [4, 11, 1, 2],
        [5, 3, 10, 0],
    ]


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_resuming_equals_the_uninterrupted_order(corpus, unit, shuffle):
    iterator = BatchIterator(corpus, batch_size=40, unit=unit, shuffle=shuffle)
    whole = order(iterator, 1)
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert order(iterator, 1, start=start) == whole[start:]
    with pytest.raises(ValueError, match=r"start must lie in"):
        iterator.epoch(1, start=len(whole) + 1)


def test_buckets_save_padding(corpus):
    def padding(pool):
        batches = list(BatchIterator(corpus, batch_size=8, pool_batches=pool).epoch(0))
        return sum(int((batch.source == PAD).sum()) for batch in batches)

    assert padding(20) < 0.5 * padding(1)


def test_unshuffled_goes_from_long_to_short(corpus):
    widths = [batch.source.shape[1] for batch in BatchIterator(corpus, batch_size=9, shuffle=False).epoch(0)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"batch_size": 0}, "batch_size"),
        ({"unit": "words"}, "unit must be 'sentences' or 'tokens'"),
        ({"targets": "one"}, "targets"),
        ({"references": "first"}, "references"),
        ({"pool_batches": 0}, "pool_batches"),
    ],
)
def test_bad_arguments(corpus, change, match):
    with pytest.raises(ValueError, match=match):
        BatchIterator(corpus, **{"batch_size": 4, **change})
    with pytest.raises(ValueError, match="at least one sentence"):
        BatchIterator(Corpus([], [], [], []), batch_size=4)
    with pytest.raises(ValueError, match="epoch"):
        BatchIterator(corpus, batch_size=4).epoch(-1)

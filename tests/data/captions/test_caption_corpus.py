"""Caption corpora: pairs as examples, batches with features, what is dropped and what is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from softbellman.data import (
    BOS,
    EOS,
    PAD,
    BatchIterator,
    CaptionTokenizer,
    DataError,
    ImageFeatures,
    collate,
    load_captions,
)

LINES = [
    ("a.jpg", "train", "A dog runs ."),
    ("a.jpg", "train", "the dog"),
    ("b.jpg", "train", "A cat"),
    ("a.jpg", "train", "a dog is running on the grass"),
    ("c.jpg", "val", "the cat ."),
    ("c.jpg", "val", "A zebra"),
    ("d.jpg", "test", "a dog"),
]


def write(folder, lines=LINES, shape=(5, 6)):
    (folder / "captions.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    np.save(folder / "features.npy", values)
    (folder / "features.names.txt").write_text("d.jpg\nc.jpg\nb.jpg\na.jpg\nunused.jpg\n")
    return values


def load(folder, **options):
    return load_captions(folder, **{"min_frequency": 1, **options})


def test_tokenizer():
    assert CaptionTokenizer().tokenize(" A Dog's ball .") == ["a", "dog's", "ball", "."]
    assert CaptionTokenizer(punctuation="drop").tokenize("A Dog's ball .") == ["a", "dogs", "ball"]
    with pytest.raises(ValueError, match="punctuation must be"):
        CaptionTokenizer(punctuation="split")


def test_from_files_to_corpora(tmp_path):
    values = write(tmp_path)
    data = load(tmp_path)
    assert data.train.images == ["a.jpg", "b.jpg"] and data.train.rows == [3, 2]
    assert data.train.reference_texts[0] == ["a dog runs .", "the dog", "a dog is running on the grass"]
    assert (
        data.dev.references[0][1][1] == 1
    )  # zebra is unknown: the vocabulary is that of the training captions
    assert "A" not in data.target_vocabulary and "." in data.target_vocabulary
    assert "." not in load(tmp_path / "captions.tsv", punctuation="drop").target_vocabulary
    assert np.array_equal(data.train.source_batch([1, 0]).numpy(), values[[2, 3]])
    assert data.test[0].image == "d.jpg" and len(list(data.train)) == 2


@pytest.mark.parametrize("shape", [(5, 6), (5, 4, 6)])
def test_every_pair_is_an_example_and_batches_hold_features(tmp_path, shape):
    values = write(tmp_path, shape=shape)
    corpus = load(tmp_path).train
    batches = BatchIterator(corpus, batch_size=3, targets="all", references="one", seed=4)
    assert batches.examples == 4
    seen = []
    for batch in batches.epoch(0):
        assert batch.source.dtype == torch.float32 and batch.source.shape == (len(batch), *shape[1:])
        assert batch.references.shape[1] == 1 and batch.to("cpu").source is not None
        for row, index in enumerate(batch.index.tolist()):
            assert np.array_equal(batch.source[row].numpy(), values[corpus.rows[index]])
            target = [token for token in batch.target[row].tolist() if token != PAD]
            assert target[0] == BOS and target[-1] == EOS
            assert target[1:-1] == batch.references[row, 0, : len(target) - 2].tolist()
            seen.append((index, corpus.references[index].index(target[1:-1])))
    assert sorted(seen) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    # each image once, all of its captions as references, the longest first captions first
    (whole,) = BatchIterator(corpus, batch_size=9, shuffle=False).epoch(0)
    assert whole.index.tolist() == [0, 1] and whole.reference_lengths.tolist() == [[4, 2, 7], [2, 0, 0]]


def test_batches_by_tokens_measure_the_caption_alone(tmp_path):
    write(tmp_path)
    corpus = load(tmp_path).train
    for batch in BatchIterator(corpus, batch_size=8, unit="tokens", targets="all").epoch(0):
        assert batch.labels.numel() <= 8


def test_long_training_captions_are_dropped(tmp_path):
    write(tmp_path)
    data = load(tmp_path, max_length=2)
    assert data.train.references[0] == [data.target_vocabulary.encode(["the", "dog"])]
    assert len(data.dev.references[0]) == 2 and data.train.images == ["a.jpg", "b.jpg"]
    assert len(data.train.drop_longer(2)) == 2
    with pytest.raises(DataError, match=r"all 4 captions are longer than max_length = 1"):
        load(tmp_path, max_length=1)


def test_fingerprint_sees_captions_and_features(tmp_path):
    write(tmp_path)

    def fingerprint():
        digest = hashlib.sha256()
        load(tmp_path).train.fingerprint(digest)
        return digest.hexdigest()

    first = fingerprint()
    assert fingerprint() == first
    values = np.load(tmp_path / "features.npy")
    values[3, 0] += 1
    np.save(tmp_path / "features.npy", values)
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([*LINES, ("e.jpg", "val", "x")], {}, r"image 'e\.jpg' has no features"),
        (
            [*LINES, ("b.jpg", "train", "...")],
            {"punctuation": "drop", "empty_lines": "refuse"},
            r"image 'b\.jpg' holds no word",
        ),
        (LINES, {"dev": "dev"}, "no split 'dev'; present: 'train', 'val', 'test'"),
        (LINES, {"min_frequency": 9}, "vocabulary is empty"),
    ],
)
def test_bad_captions_are_named(tmp_path, lines, options, message):
    write(tmp_path, lines)
    with pytest.raises(DataError, match=message):
        load(tmp_path, **options)


def test_nan_is_found_before_training(tmp_path):
    values = write(tmp_path)
    values[1] = np.nan  # c.jpg
    np.save(tmp_path / "features.npy", values)
    with pytest.raises(DataError, match=r"c\.jpg"):
        load(tmp_path)


def test_collate_by_hand(tmp_path):
    write(tmp_path)
    corpus = load(tmp_path).train
    batch = collate(corpus, [(1, 0), (0, 1)])
    assert batch.index.tolist() == [1, 0] and batch.target.shape == (2, 4)
    assert ImageFeatures.open(tmp_path / "features.npy").spec.width == batch.source.shape[1]


EMPTY = [("a.jpg", "train", " "), ("e.jpg", "train", "..."), ("c.jpg", "val", "")]


def test_empty_captions_are_left_out_and_counted(tmp_path):
    write(tmp_path, [*EMPTY, *LINES, ("",)])
    data = load(tmp_path, punctuation="drop")
    assert data.train.images == ["a.jpg", "b.jpg"]  # e.jpg, which has no features, has no caption left
    assert data.train.reference_texts[0] == ["a dog runs", "the dog", "a dog is running on the grass"]
    assert data.dev.reference_texts == [["the cat", "a zebra"]]
    assert str(data.left_out) == "3 empty"  # two captions and a line
    assert (
        str(load(tmp_path, punctuation="drop", max_length=3).left_out) == "3 empty and 1 longer than 3 tokens"
    )


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (EMPTY[:1], r"captions\.tsv, line 1: the caption of image 'a\.jpg' is empty"),
        (EMPTY[2:], r"captions\.tsv, line 1: the caption of image 'c\.jpg' is empty"),
    ],
)
def test_empty_captions_can_be_refused(tmp_path, empty, message):
    write(tmp_path, [*empty, *LINES])
    with pytest.raises(DataError, match=message):
        load(tmp_path, empty_lines="refuse")


def test_no_test_image_is_left_out(tmp_path):
    write(tmp_path, [*LINES[:-1], ("d.jpg", "test", "")])
    with pytest.raises(DataError, match=r"captions\.tsv: image 'd\.jpg' has no caption that holds a word"):
        load(tmp_path)
    write(tmp_path, [("a.jpg", "train", ""), *LINES[4:]])
    with pytest.raises(DataError, match=r"captions\.tsv: no caption holds a word"):
        load(tmp_path)

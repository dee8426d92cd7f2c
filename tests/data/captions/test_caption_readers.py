"""Caption files: what each reader returns, and every kind of bad input by name."""

from __future__ import annotations

import gzip
import json

import pytest

from softbellman.data import DataError, MissingFileError
from softbellman.data.captions import read_caption_splits, read_coco, read_karpathy, read_tsv

TSV = "b.jpg\ttrain\tA dog .\na.jpg\tval\tTwo cats\nb.jpg\ttrain\tthe  dog runs\n"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def karpathy(*images):
    return {"images": [dict(zip(("filename", "split", "sentences"), image, strict=True)) for image in images]}


def coco(images, annotations):
    return {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [{"image_id": number, "caption": caption} for number, caption in annotations],
    }


def test_tsv_with_splits(tmp_path):
    splits = read_tsv(write(tmp_path / "c.tsv", TSV))
    assert splits["train"].images == ["b.jpg"] and splits["val"].images == ["a.jpg"]
    assert splits["train"].captions == [["A dog .", "the  dog runs"]]
    assert splits["train"].origin == str(tmp_path / "c.tsv")


def test_a_folder_of_one_file_per_split(tmp_path):
    write(tmp_path / "train.tsv", "b.jpg\ta dog\nb.jpg\tdogs\n")
    with gzip.open(tmp_path / "val.tsv.gz", "wt") as file:
        file.write("a.jpg\ttwo cats\n")
    train, val = read_caption_splits(tmp_path, ["train", "val"])
    assert train.captions == [["a dog", "dogs"]] and val.images == ["a.jpg"]
    with pytest.raises(MissingFileError, match=r"test\.tsv"):
        read_caption_splits(tmp_path, ["test"])
    write(tmp_path / "test.tsv", "b.jpg\ta dog\n")
    with pytest.raises(DataError, match=r"test\.tsv: image 'b\.jpg' stands in the splits 'train' and 'test'"):
        read_caption_splits(tmp_path, ["train", "test"])


def test_a_folder_with_one_file_of_all_splits(tmp_path):
    write(tmp_path / "captions.tsv", TSV)
    assert [len(split) for split in read_caption_splits(tmp_path, ["val", "train"])] == [1, 1]


def test_karpathy_prefers_tokens_and_counts_restval_as_train(tmp_path):
    path = write(
        tmp_path / "dataset_x.json",
        karpathy(
            ("1.jpg", "train", [{"tokens": ["a", "dog"], "raw": "A dog."}, {"raw": "Dogs\n run."}]),
            ("2.jpg", "restval", [{"raw": "A cat."}]),
            ("3.jpg", "test", [{"raw": "A cow."}]),
        ),
    )
    splits = read_karpathy(path)
    assert splits["train"].images == ["1.jpg", "2.jpg"]
    assert splits["train"].captions == [["a dog", "Dogs run."], ["A cat."]]
    assert read_caption_splits(tmp_path, ["test"], format="karpathy")[0].images == ["3.jpg"]


def test_coco_annotations(tmp_path):
    content = coco([(7, "x.jpg"), (3, "y.jpg")], [(3, "a y"), (7, "an x "), (3, "more y")])
    write(tmp_path / "captions_val.json", content)
    (split,) = read_caption_splits(tmp_path, ["captions_val"], format="coco")
    assert split.images == ["x.jpg", "y.jpg"] and split.captions == [["an x"], ["a y", "more y"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no lines"),
        ("a.jpg\n", "line 1: a line must be .* got 1 columns"),
        ("a.jpg\tx\tb\na.jpg\tx\n", "line 2: the line has 2 columns, the first one 3"),
        ("a.jpg\ttrain\tx\na.jpg\ttrain\t \n", "line 2: the caption of image 'a.jpg' is empty"),
        ("a.jpg\ttrain\tx\n\ttrain\tx\n", "line 2: the name of the image"),
        ("a.jpg\ttrain\tx\na.jpg\tval\tx\n", "line 2: image 'a.jpg' stands in the splits 'train' and 'val'"),
    ],
)
def test_bad_tsv_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_tsv(write(tmp_path / "c.tsv", content))


SENTENCE = [{"raw": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ([], "must hold an object"),
        ({"pictures": []}, "the file must have 'images'"),
        (karpathy((3, "train", SENTENCE)), r"images\[0\] must have a text 'filename', got 3"),
        (karpathy(("a.jpg", None, SENTENCE)), "image 'a.jpg' must have a text 'split'"),
        (karpathy(("a.jpg", "train", None)), "image 'a.jpg' must have 'sentences'"),
        (karpathy(("a.jpg", "train", [])), "image 'a.jpg' has no caption"),
        (karpathy(("a.jpg", "train", [{"tokens": []}])), "a caption of image 'a.jpg' is empty"),
        (karpathy(("a.jpg", "train", [{}])), "a sentence of image 'a.jpg' must have a text 'raw'"),
        (karpathy(("a.jpg", "train", SENTENCE), ("a.jpg", "val", SENTENCE)), "'a.jpg' is there twice"),
    ],
)
def test_bad_karpathy_json_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_karpathy(write(tmp_path / "dataset.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco([(1, "a.jpg"), (2, "a.jpg")], []), r"'a.jpg' \(id 2\) is there twice"),
        (coco([(1, "a.jpg"), (1, "b.jpg")], []), r"'b.jpg' \(id 1\) is there twice"),
        (coco([(1, "a.jpg")], []), "image 'a.jpg' has no caption"),
        (coco([(1, "a.jpg")], [(5, "x")]), "image_id 5, which is no image"),
        (coco([(1, "a.jpg")], [(1, " ")]), "a caption of image 'a.jpg' is empty"),
        (coco([(None, "a.jpg")], []), "image 'a.jpg' must have 'id'"),
    ],
)
def test_bad_coco_json_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_coco(write(tmp_path / "captions.json", content))


def test_unknown_splits_formats_and_files_are_named(tmp_path):
    path = write(tmp_path / "c.tsv", TSV)
    with pytest.raises(DataError, match="no split 'dev'; present: 'train', 'val'"):
        read_caption_splits(path, ["train", "dev"])
    with pytest.raises(ValueError, match="format must be"):
        read_caption_splits(path, ["train"], format="csv")
    for read in (read_tsv, read_karpathy, read_coco):
        with pytest.raises(MissingFileError, match="nowhere"):
            read(tmp_path / "nowhere")


def test_empty_captions_are_kept_for_who_asks(tmp_path):
    tsv = write(tmp_path / "c.tsv", "\na.jpg\ttrain\t\n \nb.jpg\ttrain\tx\n")
    (train,) = read_caption_splits(tsv, ["train"], keep_empty=True)
    assert train.captions == [[""], ["x"]] and train.left_out == 2
    with pytest.raises(DataError, match=r"line 1: a line must be .* got 1 columns"):
        read_tsv(tsv)
    karpathy_file = write(tmp_path / "k.json", karpathy(("a.jpg", "train", [{"tokens": []}, {"raw": "x"}])))
    assert read_karpathy(karpathy_file, keep_empty=True)["train"].captions == [["", "x"]]
    coco_file = write(tmp_path / "o.json", coco([(1, "a.jpg")], [(1, " ")]))
    assert read_coco(coco_file, keep_empty=True)[""].captions == [[""]]

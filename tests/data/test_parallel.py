import gzip
import logging

import pytest

from softbellman.data import (
    DataError,
    MissingFileError,
    find_text,
    load_dataset,
    load_split,
    load_splits,
    read_lines,
    read_parallel,
)


def write(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(data)
    return path


def test_plain_and_gzip_give_the_same(tmp_path):
    source = write(tmp_path / "a.de", "eins zwei\ndrei\n")
    plain = read_parallel(source, write(tmp_path / "a.en", "one two\nthree\n"))
    packed = read_parallel(
        write(tmp_path / "b.de.gz", "eins zwei\ndrei\n"), write(tmp_path / "b.en.gz", "one two\nthree")
    )
    assert plain.sources == packed.sources == ["eins zwei", "drei"]
    assert plain.references == packed.references == [["one two"], ["three"]]


def test_several_references(tmp_path):
    source = write(tmp_path / "a.de", "eins\nzwei\n")
    targets = [write(tmp_path / f"a.en{k}", f"one{k}\ntwo{k}\n") for k in range(3)]
    assert read_parallel(source, targets).references == [["one0", "one1", "one2"], ["two0", "two1", "two2"]]


def test_only_line_feeds_end_lines(tmp_path):
    path = write(
        tmp_path / "a", b"\xef\xbb\xbfone\xe2\x80\xa8two\x0bthree\x85\r\nfour".replace(b"\x85", b"\xc2\x85")
    )
    assert read_lines(path) == ["one\u2028two\x0bthree\x85", "four"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_line_ends_of_old_macs_are_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    returns = r"holds carriage returns, but only a line feed ends a line; tr '\\r' '\\n' makes"
    for content in (b"one two\rthree\r", b"one\rtwo", b"one\rtwo\n"):
        with pytest.raises(DataError, match=rf"a{suffix}, line 1: the only line {returns}"):
            read_lines(write(path, content))
    with pytest.raises(
        DataError, match=rf"a{suffix}, line 1: the line is longer than .* bytes and {returns}"
    ):
        read_lines(write(path, b"one two\r" * 200_000))
    assert read_lines(write(path, b"one\r")) == ["one"]
    assert read_lines(write(path, b"one\rtwo\nthree\n")) == ["one\rtwo", "three"]


@pytest.mark.parametrize("longer", ["source", "target"])
def test_unequal_line_counts(tmp_path, longer):
    counts = {"source": (3, 2), "target": (2, 3)}[longer]
    source = write(tmp_path / "a.de", "x\n" * counts[0])
    target = write(tmp_path / "a.en", "y\n" * counts[1])
    short = "a.en" if longer == "source" else "a.de"
    with pytest.raises(
        DataError, match=rf"{short}, line 3: the file ends after 2 lines, but .* has 3"
    ) as info:
        read_parallel(source, target)
    assert info.value.line == 3
    assert info.value.path.endswith(short)


def test_unequal_second_reference(tmp_path):
    source, first = write(tmp_path / "a.de", "x\nx\n"), write(tmp_path / "a.en0", "y\ny\n")
    with pytest.raises(DataError, match=r"a\.en1, line 2"):
        read_parallel(source, [first, write(tmp_path / "a.en1", "y\n")])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_invalid_utf8(tmp_path, suffix):
    source = write(tmp_path / f"a.de{suffix}", b"gut\nna\xefv\n")
    with pytest.raises(DataError, match=rf"a\.de{suffix}, line 2: invalid UTF-8 \(byte 0xef at column 3\)"):
        read_parallel(source, write(tmp_path / "a.en", "good\nnaive\n"))


def test_empty_lines_are_errors_on_either_side(tmp_path):
    full = write(tmp_path / "full", "a\nb\nc\n")
    holed = write(tmp_path / "holed", "a\n \t\nc\n")
    with pytest.raises(DataError, match="holed, line 2: the line is empty"):
        read_parallel(full, holed)
    with pytest.raises(DataError, match="holed, line 2: the line is empty"):
        read_parallel(holed, full)
    with pytest.raises(DataError, match="holed, line 2"):
        read_parallel(full, [full, holed])
    with pytest.raises(DataError, match="tail, line 4"):
        read_parallel(write(tmp_path / "tail", "a\nb\nc\n\n"), write(tmp_path / "tail2", "a\nb\nc\n\n"))


@pytest.mark.parametrize("holed", ["source", "target"])
def test_empty_lines_can_be_skipped(tmp_path, caplog, holed):
    full, other = write(tmp_path / "full", "a\nb\nc\n"), write(tmp_path / "holed", "x\n\nz\n")
    with caplog.at_level(logging.INFO):
        text = read_parallel(*((other, full) if holed == "source" else (full, other)), empty_lines="skip")
    sides = (text.sources, [group[0] for group in text.references])
    assert sides == ((["x", "z"], ["a", "c"]) if holed == "source" else (["a", "c"], ["x", "z"]))
    assert text.skipped == 1 and "skipped 1 of 3 lines" in caplog.text


def test_an_empty_reference_beside_another_skips_no_line(tmp_path):
    full, holed = write(tmp_path / "full", "a\nb\nc\n"), write(tmp_path / "holed", "x\n\nz\n")
    text = read_parallel(full, [holed, full], empty_lines="skip")
    assert text.references == [["x", "a"], ["b"], ["z", "c"]] and text.skipped == 0


def test_empty_lines_can_be_kept(tmp_path):
    full, holed = write(tmp_path / "full", "a\nb\nc\n"), write(tmp_path / "holed", "x\n\nz\n")
    assert read_parallel(holed, full, empty_lines="keep").sources == ["x", "", "z"]
    assert read_parallel(full, [full, holed], empty_lines="keep").references == [
        ["a", "x"],
        ["b"],
        ["c", "z"],
    ]
    with pytest.raises(DataError, match="holed, line 2: the line is empty and there is no other reference"):
        read_parallel(full, holed, empty_lines="keep")


def test_nothing_left(tmp_path):
    blank = write(tmp_path / "blank", "\n\n")
    with pytest.raises(DataError, match="blank: every line is empty"):
        read_parallel(blank, write(tmp_path / "full", "a\nb\n"), empty_lines="skip")
    with pytest.raises(DataError, match="nothing: the file has no lines"):
        read_parallel(write(tmp_path / "nothing", ""), blank)


def test_missing_files(tmp_path):
    full = write(tmp_path / "full", "a\n")
    with pytest.raises(MissingFileError, match=r"none\.en: the file does not exist"):
        read_parallel(full, tmp_path / "none.en")
    with pytest.raises(FileNotFoundError):
        read_parallel(tmp_path / "none.de", full)
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path)


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b"".join(b"line %d %d\n" % (k, k * k) for k in range(5000)))
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.gz, line \d+: the gzip stream is damaged"):
        read_lines(cut)
    fake = tmp_path / "fake.gz"
    fake.write_bytes(b"just text\n")
    with pytest.raises(DataError, match=r"fake\.gz, line 1: the gzip stream is damaged"):
        read_lines(fake)


def test_bad_arguments(tmp_path):
    full = write(tmp_path / "full", "a\n")
    with pytest.raises(ValueError, match="empty_lines must be"):
        read_parallel(full, full, empty_lines="drop")
    with pytest.raises(ValueError, match="target_path"):
        read_parallel(full, [])


def test_find_text_and_load_split(tmp_path):
    write(tmp_path / "test.de.gz", "a\nb\n")
    write(tmp_path / "test.en0", "x\ny\n")
    write(tmp_path / "test.en1.gz", "v\nw\n")
    assert [path.name for path in find_text(tmp_path, "test", "en")] == ["test.en0", "test.en1.gz"]
    split = load_split(tmp_path, "test", source_language="de", target_language="en")
    assert split.references == [["x", "v"], ["y", "w"]]
    with pytest.raises(MissingFileError, match=r"train\.de"):
        load_split(tmp_path, "train", source_language="de", target_language="en")
    with pytest.raises(DataError, match="one source file"):
        load_split(tmp_path, "test", source_language="en", target_language="de")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["en0", "en2"], r"test\.en1: .* numbered from 0 without a gap, but there are test\.en0, test\.en2"),
        (["en1", "en2"], r"test\.en0: .* without a gap, but there are test\.en1, test\.en2"),
        (["en0", "en01.gz"], r"test\.en1: .* without a gap, but there are test\.en0, test\.en01\.gz$"),
        (
            ["en", "en0"],
            r"test\.en: the file stands beside numbered ones \(test\.en, test\.en0\); keep either",
        ),
        (
            ["en.gz", "en3.gz"],
            r"test\.en\.gz: the file stands beside numbered ones \(test\.en\.gz, test\.en3",
        ),
    ],
)
def test_references_that_would_be_left_out_are_named(tmp_path, names, message):
    write(tmp_path / "test.de", "a\n")
    for name in names:
        write(tmp_path / f"test.{name}", "x\n")
    with pytest.raises(DataError, match=message) as info:
        load_split(tmp_path, "test", source_language="de", target_language="en")
    assert not isinstance(info.value, MissingFileError)


def test_what_is_no_numbered_file_of_a_side(tmp_path):
    for name in ("test.en", "test.en.gz", "test.en.bpe", "test.en2", "test_2016.en0", "test.en2.gz"):
        write(tmp_path / name, f"{name}\n")
    (tmp_path / "test.en1").mkdir()
    split = load_split(tmp_path, "test", source_language="en", target_language="en2")
    assert (split.sources, split.references) == (["test.en"], [["test.en2"]])
    split = load_split(tmp_path, "test", source_language="en2", target_language="en")
    assert (split.sources, split.references) == (["test.en2"], [["test.en"]])


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "train.de").mkdir()
    with pytest.raises(DataError, match=r"train\.de: is no regular file"):
        find_text(tmp_path, "train", "de")


def test_training_skips_empty_lines_and_tests_keep_them(tmp_path):
    for name in ("train", "val", "test"):
        write(tmp_path / f"{name}.de", "eins zwei\n\ndrei\n")
        write(tmp_path / f"{name}.en0", "one two\nthree\n \n")
        write(tmp_path / f"{name}.en1", "1 2\n3\n3\n")
    languages = {"source_language": "de", "target_language": "en"}
    train, dev, test = load_splits(tmp_path, **languages)
    assert train.sources == ["eins zwei", "drei"] and train.skipped == 1
    assert dev.sources == test.sources == ["eins zwei", "", "drei"]
    assert test.references == [["one two", "1 2"], ["three", "3"], ["3"]]
    data = load_dataset(tmp_path, **languages, min_frequency=1, max_length=1)
    assert str(data.left_out) == "1 empty and 2 longer than 1 tokens" and len(data.test) == 3
    with pytest.raises(DataError, match=r"train\.de, line 2: the line is empty"):
        load_splits(tmp_path, **languages, empty_lines="refuse")
    write(tmp_path / "test.en0", "a\n\nc\n")
    write(tmp_path / "test.en1", "a\n\nc\n")
    with pytest.raises(DataError, match=r"test\.en0, line 2: the line is empty and there is no other"):
        load_splits(tmp_path, **languages)

"""Objects that a user names or hands over: how they are found, what is recorded, what is said where they are not there."""

from __future__ import annotations

import functools
import sys
import textwrap
import traceback

import pytest

from softbellman.core.files import digest
from softbellman.core.objects import (
    UserCodeError,
    absolute_name,
    facts_of,
    given_object,
    is_object_name,
    load_object,
    same_name,
    what_changed,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that is on Python's path; modules that a test loads from it are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(path, text):
    path.write_text(textwrap.dedent(text))
    return path


def test_a_module_and_a_file_are_found_and_described(folder):
    path = write(
        folder / "brought_rewards.py",
        """\
        __version__ = "1.4"
        class Outer:
            version = "seven"
            def inner(): return 3
            def __call__(self): return 5
        def plain(): return 1
        """,
    )
    for where in ("brought_rewards", "./brought_rewards.py"):
        plain = load_object(f"{where}:plain", key="k")
        assert plain.value() == 1 and plain.version == "1.4" and plain.is_known
        assert plain.path == str(path) and plain.digest == digest(path.read_bytes())
        assert load_object(f"{where}:Outer.inner", key="k").value() == 3
        made = load_object(f"{where}:Outer", key="k")
        assert made.value() == 5 and made.version == "seven"
        assert load_object(f"{where}:Outer", key="k", as_class=True).value().__class__ is type(made.value)
    assert load_object("sacrebleu.metrics.bleu:BLEU", key="k").version.count(".") >= 1


def test_a_file_is_run_once_for_each_content(folder):
    path = write(folder / "own.py", "found = []\n")
    first = load_object("own.py:found", key="k").value
    first.append(1)
    assert load_object("./own.py:found", key="k").value is first
    write(
        path, "found = [2]"
    )  # as many bytes, in the same second: no cache of bytecode may serve the old one
    assert load_object("own.py:found", key="k").value == [2]


def test_a_recorded_place_comes_before_the_working_directory(folder, monkeypatch):
    place = write(folder / "own.py", "found = 1\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write(elsewhere / "own.py", "found = 2\n")
    assert load_object("own.py:found", key="k", place=str(place)).value == 1
    place.unlink()
    assert load_object("own.py:found", key="k", place=str(place)).value == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nowhere_at_all:f",
            "k is nowhere_at_all:f, but there is no module nowhere_at_all: install it, put its folder on",
        ),
        ("softbellman.nowhere:f", "there is no module softbellman.nowhere"),
        ("./nowhere.py:f", "k is ./nowhere.py:f, but there is no file .*nowhere.py"),
        ("own.py:g", "k is own.py:g, but .*own.py has no g"),
        ("own.py", "k must be MODULE:OBJECT or FILE.py:OBJECT, got 'own.py'"),
        ("own.py:", "k must be MODULE:OBJECT or FILE.py:OBJECT"),
        ("python:f", "handed over in Python .* hand it over again"),
    ],
)
def test_what_is_missing_is_said(folder, name, sentence):
    write(folder / "own.py", "f = 1\n")
    with pytest.raises(ValueError, match=sentence):
        load_object(name, key="k")


def test_errors_of_the_users_code_keep_their_trace(folder):
    write(folder / "broken.py", "def deep():\n    return {}['a']\ndeep()\n")
    write(folder / "needs.py", "import something_not_installed\n")
    write(folder / "makes.py", "class C:\n    def __init__(self):\n        raise OSError('no weights')\n")
    for name, words in (
        ("./broken.py:f", "KeyError: 'a'"),
        ("broken:f", "KeyError: 'a'"),
        ("needs:f", "ModuleNotFoundError: No module named 'something_not_installed'"),
        ("makes:C", "OSError: no weights"),
    ):
        with pytest.raises(UserCodeError, match=words) as caught:
            load_object(name, key="k")
        shown = "".join(traceback.format_exception(caught.value))
        assert (
            f"{name.partition(':')[0].removesuffix('.py').strip('./')}.py" in shown
            and "direct cause" in shown
        )
    with pytest.raises(UserCodeError):  # a failed file is not half there the next time
        load_object("./broken.py:f", key="k")


def module_level(hypotheses, references):
    return [0.0] * len(hypotheses)


def test_what_is_handed_over_has_a_name_where_one_leads_to_it():
    found = given_object(module_level)
    assert found.name == f"{__name__}:module_level" and found.is_named and found.path == __file__
    assert load_object(found.name, key="k").value is module_level

    def local(hypotheses, references):
        return [1.0] * len(hypotheses)

    class Weighted:
        version = "2"

        def __call__(self, hypotheses, references):
            return []

    hidden = given_object(local)
    assert (
        hidden.name.startswith("python:test_what_is_handed_over")
        and not hidden.is_named
        and not hidden.is_known
    )
    assert len(hidden.digest) == 64
    made = given_object(Weighted())
    assert made.name == "python:Weighted" and made.is_known and made.version == "2"
    assert given_object(lambda h, r: []).digest != hidden.digest


def test_changes_are_told(folder):
    path = write(folder / "own.py", "f = 1\n")
    recorded = load_object("own.py:f", key="k").facts()
    assert what_changed(recorded, load_object("own.py:f", key="k")) is None
    write(path, "f = 2\n")
    assert what_changed(recorded, load_object("own.py:f", key="k")) == f"was changed in {path}"
    write(path, "__version__ = '3'\nf = 2\n")
    assert (
        what_changed(recorded, load_object("own.py:f", key="k"))
        == "is of version 3, the recorded one was of none"
    )


def test_what_is_a_name(folder, monkeypatch):
    assert is_object_name("a.py:b")
    assert not any(map(is_object_name, ("lstm", "a:", ":b", "")))
    monkeypatch.chdir(folder)
    assert absolute_name("./own.py:Box.side") == f"{folder}/own.py:Box.side"
    assert absolute_name("torch.nn:GRU") == "torch.nn:GRU"


def test_a_file_may_define_dataclasses(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Point:\n    x: int = 1\n"
    )
    assert load_object(f"{path}:Point", key="k", as_class=True).value().x == 1


def test_a_file_that_was_moved_is_found_in_the_working_directory(folder, monkeypatch):
    (folder / "old").mkdir()
    path = write(folder / "old" / "own.py", "f = 1\n")
    recorded = load_object(f"{path}:f", key="k").facts()
    (folder / "new").mkdir()
    moved = path.rename(folder / "new" / "own.py")
    with pytest.raises(ValueError, match=r"there is no file .*old/own\.py and .*own\.py"):
        load_object(recorded["name"], key="k")
    monkeypatch.chdir(folder / "new")
    found = load_object(recorded["name"], key="k")
    assert found.path == str(moved) and what_changed(recorded, found) is None
    assert facts_of([recorded], "./own.py:f") == recorded and facts_of([recorded], "./own.py:g") is None


def test_names_of_one_file_name_may_mean_one_object():
    assert same_name("/old/own.py:f", "./own.py:f") and same_name("package:f", "package:f")
    assert not any(
        same_name("own.py:f", other) for other in ("own.py:g", "other.py:f", "own:f", "package.own:f")
    )


def scaled(weight, *, power=1.0):
    def payoff(hypotheses, references, offset=0.0):
        return [weight * power + offset for _ in hypotheses]

    return payoff


class Judge:
    def __init__(self, weight):
        self.weight, self.calls = weight, 0

    def score(self, hypotheses, references):
        return [self.weight for _ in hypotheses]


def made_in(weight):
    class Inner:
        def __call__(self, hypotheses, references):
            return [weight for _ in hypotheses]

    return Inner


def counting_down():
    seen = []

    def payoff(hypotheses, references):
        seen.append(len(hypotheses))
        return payoff(hypotheses[1:], references) if hypotheses else []

    return payoff, seen


def test_a_function_that_holds_itself_and_a_list_is_known_all_the_same():
    payoff, seen = counting_down()
    before = given_object(payoff).digest
    seen.append(3)  # a list may be filled during the run
    assert before and given_object(payoff).digest == before


def test_a_function_is_known_by_what_it_has_taken_along():
    def known(value):
        return given_object(value).digest

    assert known(scaled(1.0)) == known(scaled(1.0)) != known(scaled(-7.0))
    assert known(scaled(1.0)) != known(scaled(1.0, power=2.0))
    once, twice = functools.partial(scaled, 1.0), functools.partial(scaled, 1.0, power=2.0)
    assert known(once) == known(functools.partial(scaled, 1.0)) != known(twice)
    assert known(once) != known(functools.partial(made_in, 1.0))
    assert known(made_in(1.0)) == known(made_in(1.0)) != known(made_in(2.0))
    assert known(made_in(1.0)()) != known(made_in(2.0)())
    assert known(lambda h, r, k=1: k) != known(lambda h, r, k=2: k)
    counting = Judge(1.0)
    before = known(counting.score)
    counting.calls += 1
    assert known(counting.score) == before  # what an instance holds is its own affair

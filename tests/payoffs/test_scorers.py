"""Payoffs of the user's own: what they are given, what is refused, how often they are asked, by whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from softbellman.core.objects import UserCodeError, load_object
from softbellman.payoffs.scorers import Scorer, scorer
from softbellman.payoffs.scoring import CachedScorer, ScoringOptions


def lengths(hypotheses, references):
    return [
        len(text.split()) / len(group[0].split()) for text, group in zip(hypotheses, references, strict=True)
    ]


def test_a_plain_function_reads_texts():
    seen = []

    def plain(hypotheses, references):
        seen.append((hypotheses, references))
        return lengths(hypotheses, references)

    assert Scorer(plain, "p")(["a b", "a"], [("a b c d",), ("x y", "z")]) == [0.5, 0.5]
    assert seen == [(["a b", "a"], [["a b c d"], ["x y", "z"]])]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, iter])
def test_scores_may_be_in_any_sequence(kind):
    found = Scorer(lambda h, r: kind([1.0, 0.5]), "p")(["a", "b"], [(), ()])
    assert found == [1.0, 0.5] and all(type(score) is float for score in found)
    prefixes = scorer(reads="tokens", per="prefix")(
        lambda h, r: kind([[1.0, 0.5]]) if kind is not iter else iter([[1, 0.5]])
    )
    assert Scorer(prefixes, "p")([(4, 5)], [()]) == [(1.0, 0.5)]


def test_token_ids_come_as_lists():
    seen = []
    Scorer(scorer(reads="tokens")(lambda h, r: seen.append((h, r)) or [0.0]), "p")([(4, 5)], [((6,), (7, 8))])
    assert seen == [([[4, 5]], [[[6], [7, 8]]])]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda h, r: [1.0], r"payoff p gave 1 scores for 2 hypotheses"),
        (lambda h, r: [1.0, float("nan")], r"payoff p gave nan for 'b'; scores must be finite"),
        (lambda h, r: [float("-inf"), 1.0], r"payoff p gave -inf for 'a'"),
    ],
)
def test_scores_that_cannot_be_used_are_one_sentence(function, sentence):
    with pytest.raises(ValueError, match=sentence):
        Scorer(function, "p")(["a", "b"], [(), ()])


def test_scores_of_prefixes_are_as_many_as_tokens():
    wrong = Scorer(scorer(reads="tokens", per="prefix")(lambda h, r: [[1.0]]), "p")
    with pytest.raises(ValueError, match=r"gave 1 scores for the 2 tokens of \[4, 5\]"):
        wrong([(4, 5)], [()])


def test_what_is_no_scorer_is_named():
    with pytest.raises(ValueError, match="payoff p must be a callable, got int"):
        Scorer(3, "p")
    with pytest.raises(ValueError, match="reads must be one of text, tokens, got 'words'"):
        scorer(reads="words")
    with pytest.raises(ValueError, match="per 'prefix' needs reads 'tokens'"):
        scorer(per="prefix")

    class Odd:
        rewards = "never"

        def __call__(self, hypotheses, references):
            return []

    with pytest.raises(ValueError, match="payoff p: rewards must be one of None, prefixes, end, got 'never'"):
        Scorer(Odd(), "p")


def failing(hypotheses, references):
    table = {}
    return [table[text] for text in hypotheses]


@pytest.mark.parametrize(
    "options", [ScoringOptions(), ScoringOptions(workers=1), ScoringOptions(workers=1, pool="threads")]
)
def test_an_error_of_the_users_code_shows_its_line(options):
    scores = CachedScorer(Scorer(failing, "p"), options)
    with pytest.raises(UserCodeError, match="payoff p raised KeyError: 'a'") as caught:
        scores(["a"], [()])
    scores.close()
    shown = "".join(traceback.format_exception(caught.value))
    assert "return [table[text] for text in hypotheses]" in shown


def test_each_pair_is_scored_once_in_batches():
    calls = []

    def counting(hypotheses, references):
        calls.append(hypotheses)
        return lengths(hypotheses, references)

    scores = CachedScorer(Scorer(counting, "p"), ScoringOptions(batch_size=2))
    group, other = ("a b",), ("a",)
    assert scores(["a", "a", "b c", "a", "c"], [group, group, group, other, group]) == [
        0.5,
        0.5,
        1.0,
        1.0,
        0.5,
    ]
    assert calls == [["a", "b c"], ["a", "c"]]
    assert scores(["c", "a"], [group, other]) == [0.5, 1.0] and len(calls) == 2


def test_the_latest_scores_are_kept():
    calls = []

    def counting(hypotheses, references):
        calls.extend(hypotheses)
        return [1.0] * len(hypotheses)

    scores = CachedScorer(Scorer(counting, "p"), ScoringOptions(cache=2))
    for text in ("a", "b", "a", "c", "a", "b"):  # c drives b out, which was not asked for since
        scores([text], [()])
    assert calls == ["a", "b", "c", "b"]
    calls.clear()
    without = CachedScorer(Scorer(counting, "p"), ScoringOptions(cache=0))
    assert without(["a", "a"], [(), ()]) == [1.0, 1.0] and without(["a"], [()]) == [1.0]
    assert calls == ["a", "a"]


def process_of(hypotheses, references):
    return [float(os.getpid())] * len(hypotheses)


def test_workers_are_processes_or_threads(tmp_path):
    texts, groups = list("abcdef"), [()] * 6
    scores = CachedScorer(Scorer(process_of, "p"), ScoringOptions(workers=2, batch_size=1))
    found = set(scores(texts, groups))
    assert float(os.getpid()) not in found and 1 <= len(found) <= 2
    scores.close()
    for process in found:
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)
    path = tmp_path / "own.py"  # no pickle brings it to a process; its name does
    path.write_text(
        "import os\nclass P:\n    def __call__(self, h, r):\n        return [float(os.getpid())] * len(h)\n"
    )
    origin = load_object(f"{path}:P", key="k")
    scores = CachedScorer(Scorer(origin.value, "p"), ScoringOptions(workers=1), origin)
    assert scores(["a"], [()]) != [float(os.getpid())]
    scores.close()
    names: list[str] = []
    local = CachedScorer(
        Scorer(lambda h, r: names.append(threading.current_thread().name) or [2.0] * len(h), "p"),
        ScoringOptions(workers=2, batch_size=1, pool="threads"),
    )
    assert local(texts, groups) == [2.0] * 6 and all(name.startswith("payoff") for name in names)
    local.close()


def test_what_no_process_can_be_given_is_a_sentence():
    with pytest.raises(
        ValueError, match=r"payoff\.pool is processes, but payoff p cannot be sent to one .*pool: threads"
    ):
        CachedScorer(Scorer(lambda h, r: [], "p"), ScoringOptions(workers=1))


def dying(hypotheses, references):
    os._exit(3)


def test_a_worker_that_dies_is_a_sentence():
    scores = CachedScorer(Scorer(dying, "p"), ScoringOptions(workers=1))
    with pytest.raises(UserCodeError, match="payoff p: a worker process died"):
        scores(["a"], [()])
    scores.close()


ORPHANS = """
import os, signal
from softbellman.payoffs.scorers import Scorer
from softbellman.payoffs.scoring import CachedScorer, ScoringOptions
from payoffs.test_scorers import process_of

if __name__ == "__main__":
    scores = CachedScorer(Scorer(process_of, "p"), ScoringOptions(workers=1))
    print(int(scores(["a"], [()])[0]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    paths = os.pathsep.join(
        [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    with subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlives the run")


def test_workers_leave_signals_to_the_run():
    """SIGTERM of a whole group, as of a batch system, is the parent's: it finishes its update, and needs their scores."""
    scores = CachedScorer(Scorer(process_of, "p"), ScoringOptions(workers=1))
    (worker,) = scores(["a"], [()])
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(int(worker), number)
    assert scores(["b"], [()]) == [worker]
    scores.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker), 0)


def dying_or_waiting(hypotheses, references):
    if hypotheses == ["die"]:
        os._exit(3)
    if hypotheses == ["wait"]:
        time.sleep(200)
    return [1.0] * len(hypotheses)


def test_a_worker_that_dies_takes_the_others_along():
    scores = CachedScorer(Scorer(dying_or_waiting, "p"), ScoringOptions(workers=2, batch_size=1))
    # A worker that dies in its first moments is missed until another ends its work.
    scores(["both", "start"], [(), ()])
    started = time.monotonic()
    with pytest.raises(UserCodeError, match="payoff p: a worker process died"):
        scores(["wait", "die"], [(), ()])
    scores.close()
    assert time.monotonic() - started < 150


@pytest.mark.parametrize(
    "options", [ScoringOptions(), ScoringOptions(workers=2, batch_size=1, pool="threads")]
)
def test_what_it_does_to_torch_is_undone(options):
    def careless(hypotheses, references):
        torch.manual_seed(0)
        torch.rand(3)
        torch.set_grad_enabled(False)
        return [1.0] * len(hypotheses)

    torch.manual_seed(7)
    wanted = torch.get_rng_state()
    scores = CachedScorer(Scorer(careless, "p"), options)
    assert scores(list("abcd"), [()] * 4) == [1.0] * 4
    scores.close()
    assert torch.equal(torch.get_rng_state(), wanted) and torch.is_grad_enabled()

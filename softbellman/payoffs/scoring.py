"""Scores of many hypotheses: each once, in batches, by workers where the settings want some, remembered.

Payoffs that are no kernel are slow, and the same prefix comes again and again: with K samples of a source, and from epoch to
epoch. The most recent scores are kept.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import pickle
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, NamedTuple

import torch

from softbellman.core.kept_state import kept_state
from softbellman.core.objects import UserCodeError, UserObject, load_object
from softbellman.payoffs.scorers import Group, Hypothesis, Score, Scorer

Pair = tuple[Hypothesis, Group]


class ScoringOptions(NamedTuple):
    """How a scorer is called.

    Attributes:
        batch_size: hypotheses of one call.
        workers: that score batches at the same time; 0: the process itself does.
        pool: what the workers are.
        cache: scores that are kept.
    """

    batch_size: int = 256
    workers: int = 0
    pool: Literal["processes", "threads"] = "processes"
    cache: int = 200_000


class CachedScorer:
    """Calls a scorer for what it has not scored yet. `close` ends the workers.

    Args:
        scorer: what scores.
        options: how it is called.
        origin: where worker processes find it.

    Raises:
        ValueError: worker processes are wanted of an object that neither a name nor a pickle brings there.
    """

    def __init__(self, scorer: Scorer, options: ScoringOptions, origin: UserObject | None = None) -> None:
        self.scorer, self.options = scorer, options
        self._kept: OrderedDict[Pair, Score] = OrderedDict()
        self._executor: Executor | None = None
        self._parcel = b""
        if options.workers and options.pool == "processes":
            self._parcel = _parcel(scorer, origin)

    def __call__(self, hypotheses: Sequence[Hypothesis], references: Sequence[Group]) -> list[Score]:
        """Scores of N hypotheses, each with its references; errors are those of `Scorer`."""
        pairs = list(zip(hypotheses, references, strict=True))
        kept = self._kept
        found = {pair: kept[pair] for pair in pairs if pair in kept}
        missing = list(dict.fromkeys(pair for pair in pairs if pair not in found))
        size = self.options.batch_size
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        if batches:
            with kept_state():  # here, since threads share the generators
                scored = self._score(batches)
            for batch, scores in zip(batches, scored, strict=True):
                found.update(zip(batch, scores, strict=True))
        kept.update(found)
        for pair in found:
            kept.move_to_end(pair)
        while len(kept) > self.options.cache:
            kept.popitem(last=False)
        return [found[pair] for pair in pairs]

    def _score(self, batches: Sequence[Sequence[Pair]]) -> list[list[Score]]:
        if not self.options.workers:
            return [self.scorer(*_columns(batch)) for batch in batches]
        columns = [_columns(batch) for batch in batches]
        work: Callable[[tuple[list[Hypothesis], list[Group]]], list[Score]]
        work = _work if self._parcel else lambda column: self.scorer(*column)
        try:
            return list(self._pool().map(work, columns))
        except BrokenProcessPool as error:
            self.close()
            raise UserCodeError(f"payoff {self.scorer.name}: a worker process died") from error

    def _pool(self) -> Executor:
        if self._executor is None:
            workers = self.options.workers
            if self._parcel:
                # A forked child could not use the threads of torch.
                self._executor = ProcessPoolExecutor(
                    workers,
                    _Spawned(),
                    initializer=_begin,
                    initargs=(self._parcel,),
                )
            else:
                self._executor = ThreadPoolExecutor(workers, thread_name_prefix="payoff")
        return self._executor

    def close(self) -> None:
        """End the workers, if there are any; a later call starts new ones."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


def _columns(batch: Sequence[Pair]) -> tuple[list[Hypothesis], list[Group]]:
    return [pair[0] for pair in batch], [pair[1] for pair in batch]


# Worker processes -----------------------------------------------------------------------------------------------------


class _Worker(multiprocessing.context.SpawnProcess):
    """A process that ignores SIGTERM, by which a pool that has lost one ends the others."""

    def terminate(self) -> None:
        self.kill()


class _Spawned(multiprocessing.context.SpawnContext):
    Process = _Worker


def _parcel(scorer: Scorer, origin: UserObject | None) -> bytes:
    """What a worker makes its scorer of: a name, else the object itself."""
    if origin is not None and origin.is_named:
        return pickle.dumps((scorer.name, origin.name, origin.path, None))
    try:
        return pickle.dumps((scorer.name, "", "", scorer.function))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"payoff.pool is processes, but payoff {scorer.name} cannot be sent to one ({error}): put it into a module or a "
            "file and give its name, or say payoff.pool: threads"
        ) from None


_scorer: Any = None


def _begin(parcel: bytes) -> None:
    """The start of a worker: one thread of torch, the end of the parent is its own, signals are the parent's."""
    global _scorer
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both may come to the whole group, and the parent needs scores to finish its update.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    label, name, place, value = pickle.loads(parcel)
    _scorer = Scorer(load_object(name, key="payoff", place=place).value if name else value, label)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(columns: tuple[list[Hypothesis], list[Group]]) -> list[Score]:
    scores: list[Score] = _scorer(*columns)
    return scores

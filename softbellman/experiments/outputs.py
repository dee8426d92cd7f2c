"""What a system said on the test set, with sources and references: from a run folder, or from its compact form.

A run folder holds sources and references with the hypotheses of each stage. The compact form holds hypotheses alone; the test
set lies once in `test-sets/DIGEST.jsonl` of a folder above, and `hypotheses/test-set.json` of the run has its digest. Where a
test set may not be given away, `hypotheses/test-STAGE.npz` has the numbers of each sentence that tests need, without any text.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softbellman import config
from softbellman.core.files import write_atomically
from softbellman.data.scenes import Scene, SceneSplit
from softbellman.data.scenes.generator import generate_split
from softbellman.experiments.resampling import RESAMPLED, Array, kind_of
from softbellman.training.files import read_json, write_json
from softbellman.training.runfolder import RunFolder, RunFolderError, read_metrics
from softbellman.training.settings import TRUTH, Settings

TEST_SETS = "test-sets"
POINTER = "test-set.json"
_ABOVE = 4  # folders above a run in which test sets are looked for


class TestSize(NamedTuple):
    """How large a test set is.

    Attributes:
        sentences: or images.
        fewest, most: references of one.
    """

    sentences: int
    fewest: int
    most: int


@dataclass(frozen=True)
class TestSet:
    """Sources and the (one or more) references of each sentence or image."""

    sources: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.references)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over the references, by which two runs are known to have been tested alike."""
        return hashlib.sha256(json.dumps(self.references).encode()).hexdigest()[:16]

    @cached_property
    def size(self) -> TestSize:
        """Sentences, and the fewest and the most references of one."""
        counts = [len(group) for group in self.references] or [0]
        return TestSize(len(self), min(counts), max(counts))

    def records(self) -> Iterable[dict[str, Any]]:
        """One JSON object a sentence."""
        for source, references in zip(self.sources, self.references, strict=True):
            yield {"source": source, "references": list(references)}


@dataclass(frozen=True)
class Outputs:
    """Hypotheses of one system, in the order of the test set.

    Attributes:
        test_set: what was tested on.
        hypotheses: one a sentence or image.
        scenes: makes the scene of each image again, for the metric `truth`; None where they are not known. Raises ValueError
            where it cannot.
    """

    test_set: TestSet
    hypotheses: tuple[str, ...]
    scenes: Callable[[], Sequence[Scene]] | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """Of the test set's references."""
        return self.test_set.digest

    @property
    def size(self) -> TestSize:
        """Of the test set."""
        return self.test_set.size

    def lacks(self, kind: str) -> str:
        """Why there are no statistics of a kind of metric; empty where there are."""
        if kind != TRUTH:
            return ""
        try:
            self._compared(kind)
        except ValueError as error:
            return str(error)
        return ""

    def _compared(self, kind: str) -> Sequence[Any]:
        """What the hypotheses are compared with."""
        if kind != TRUTH:
            return self.test_set.references
        if self.scenes is None:
            raise ValueError(f"{TRUTH} is of captions of scenes, and those of these outputs are not known")
        return self.scenes()

    def statistics(self, kind: str, tokenize: str) -> Array:
        """`[N, S]` of a kind of metric (`resampling.kind_of`), with a tokeniser of sacrebleu's.

        Raises:
            ValueError: it `lacks` them.
        """
        compared = self._compared(kind)
        return RESAMPLED[kind].statistics(self.hypotheses, compared, tokenize=tokenize)


@dataclass(frozen=True)
class Measured:
    """Outputs whose texts were left out: what tests need of them.

    Attributes:
        digest: of the test set's references.
        size: of the test set.
        by_kind: statistics `[N, S]` by kind of metric, with the run's own tokeniser.
    """

    digest: str
    size: TestSize
    by_kind: Mapping[str, Array]

    def lacks(self, kind: str) -> str:
        """Why there are no statistics of a kind of metric; empty where there are."""
        return "" if kind in self.by_kind else f"the copy without texts has no numbers of {kind}"

    def statistics(self, kind: str, tokenize: str) -> Array:
        """`[N, S]`; raises KeyError of a kind that was not kept."""
        return self.by_kind[kind]


def read_measured(run: str | Path, stage: str) -> Outputs | Measured:
    """The test outputs of a stage, or what was kept of them for tests.

    Raises:
        RunFolderError: neither is there, or they are not those of one test set; names the file.
    """
    folder = RunFolder.open(run).path / "hypotheses"
    path = folder / f"test-{stage}.npz"
    if not path.is_file():
        return read_outputs(run, stage)
    try:
        pointer = read_json(folder / POINTER)
        with np.load(path, allow_pickle=False) as found:
            by_kind = {kind: found[kind].astype(np.float64) for kind in found.files}
        size = TestSize(*(int(pointer[name]) for name in TestSize._fields))
        if any(len(values) != size.sentences for values in by_kind.values()):
            raise ValueError("not a row a sentence")
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{path} is damaged, or {POINTER} beside it is: {error}") from None
    return Measured(str(pointer.get("digest", "")), size, by_kind)


def read_outputs(run: str | Path, stage: str) -> Outputs:
    """The test outputs of a stage.

    Raises:
        RunFolderError: they are not there, or they are not those of one test set; names the file.
    """
    folder = RunFolder.open(run)
    path = folder.path / "hypotheses" / f"test-{stage}.jsonl"
    if path.is_file():
        records = read_metrics(path)
        try:
            test_set = _test_set(records)
            hypotheses = tuple(str(record["hypothesis"]) for record in records)
        except (KeyError, TypeError):
            raise RunFolderError(f"{path} holds no source, references and hypothesis on every line") from None
        return Outputs(test_set, hypotheses, partial(_scenes_of, folder.path, test_set))
    if path.with_suffix(".npz").is_file():
        raise RunFolderError(f"{run} was copied without its texts")
    hypotheses = tuple(folder.read_hypotheses(f"test-{stage}"))
    test_set = read_test_set(folder.path)
    if len(test_set) != len(hypotheses):
        raise RunFolderError(
            f"{path.with_suffix('.txt')} has {len(hypotheses)} lines, its test set {len(test_set)} sentences"
        )
    return Outputs(test_set, hypotheses, partial(_scenes_of, folder.path, test_set))


def _scenes_of(run: Path, test_set: TestSet) -> Sequence[Scene]:
    """The scene of each image of a run's test set, made again.

    Raises:
        ValueError: the data are no scenes, or their captions are not those that the run was tested on.
    """
    data = config.load(Settings, run / "config.yaml").data
    if data.kind != "scenes":
        raise ValueError(f"{TRUTH} is of captions of scenes, and {run} is on {data.kind} data")
    split = _test_split(data.seed, data.test_pairs, data.difficulty)
    by_name = dict(zip(split.names, zip(split.scenes, split.captions, strict=True), strict=True))
    found = []
    for name, references in zip(test_set.sources, test_set.references, strict=True):
        scene, captions = by_name.get(name, (None, ()))
        if scene is None or tuple(captions) != references:
            raise ValueError(
                f"the scenes of {run} cannot be made again: {name} has other captions than the run was tested on"
            )
        found.append(scene)
    return found


@lru_cache(maxsize=1)
def _test_split(seed: int, count: int, difficulty: float) -> SceneSplit:
    return generate_split("test", seed=seed, count=count, difficulty=difficulty)


def read_test_set(run: Path) -> TestSet:
    """The test set of a run in compact form; raises RunFolderError where it is not there."""
    pointer = run / "hypotheses" / POINTER
    if not pointer.is_file():
        raise RunFolderError(f"{run} holds no sources and references of its hypotheses")
    digest = str(read_json(pointer).get("digest", ""))
    for above in run.absolute().parents[:_ABOVE]:
        path = above / TEST_SETS / f"{digest}.jsonl"
        if path.is_file():
            test_set = _test_set(read_metrics(path))
            if test_set.digest != digest:
                raise RunFolderError(f"{path} is damaged: its references have digest {test_set.digest}")
            return test_set
    raise RunFolderError(f"{run}: no folder above has {TEST_SETS}/{digest}.jsonl")


def write_compact(outputs: Sequence[tuple[str, Outputs]], run: Path, root: Path) -> None:
    """Write the outputs of a run's stages in compact form.

    Args:
        outputs: stages with their outputs, of one test set.
        run: the run's folder in the compact form.
        root: a folder above it, which gets the test set unless it has it.

    Raises:
        ValueError: several test sets in one run.
    """
    _check_one(outputs, run)
    for stage, found in outputs:
        RunFolder(run).write_hypotheses(f"test-{stage}", found.hypotheses)
    if outputs:
        test_set = outputs[0][1].test_set
        write_json(run / "hypotheses" / POINTER, {"digest": test_set.digest})
        path = root / TEST_SETS / f"{test_set.digest}.jsonl"
        if not path.exists():
            lines = (json.dumps(record, ensure_ascii=False) for record in test_set.records())
            write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def write_measured(
    outputs: Sequence[tuple[str, Outputs | Measured]], run: Path, *, metrics: Iterable[str], tokenize: str
) -> None:
    """Write what tests need of the outputs of a run's stages, without a word of them.

    Args:
        outputs: stages with their outputs, of one test set.
        run: the run's folder in the compact form.
        metrics: that the run logged.
        tokenize: sacrebleu's tokeniser of the run.

    Raises:
        ValueError: several test sets in one run.
    """
    kinds = dict.fromkeys(kind_of(metric) for metric in metrics if metric in RESAMPLED)
    _check_one(outputs, run)
    for stage, found in outputs:
        arrays: dict[str, Any] = {
            kind: _small(found.statistics(kind, tokenize)) for kind in kinds if not found.lacks(kind)
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(run / "hypotheses" / f"test-{stage}.npz", buffer.getvalue())
    if outputs:
        first = outputs[0][1]
        write_json(run / "hypotheses" / POINTER, {"digest": first.digest, **first.size._asdict()})


def _small(values: Array) -> np.ndarray[Any, Any]:
    """Counts as whole numbers, scores in single precision."""
    counts = values.astype(np.int32)
    return counts if np.array_equal(counts, values) else values.astype(np.float32)


def _check_one(outputs: Sequence[tuple[str, Outputs | Measured]], run: Path) -> None:
    if len({found.digest for _, found in outputs}) > 1:
        raise ValueError(f"{run}: its stages were tested on different data")


def _test_set(records: Sequence[dict[str, Any]]) -> TestSet:
    return TestSet(
        tuple(str(record["source"]) for record in records),
        tuple(tuple(map(str, record["references"])) for record in records),
    )

"""What a sheet of captions shows: test images, their references, and what the systems of some runs said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from softbellman import config
from softbellman.data import CaptionCorpus, CaptionTokenizer
from softbellman.data.captions import read_caption_splits
from softbellman.data.captions.readers import CaptionFormat
from softbellman.experiments.collect import SystemResult, actor_stages, algorithm_name, deciding_settings
from softbellman.experiments.groups import name_among
from softbellman.payoffs import sentence_bleu
from softbellman.training.evaluation import corpus_batches, translate_corpus
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.resumption import recorded_task
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings
from softbellman.training.trained import load_run


@dataclass(frozen=True)
class Said:
    """A system's caption of one image.

    Attributes:
        system: its name.
        caption: as it was decoded.
        bleu: sentence BLEU of 0 to 100 against all references of the image; None where it was not asked for.
    """

    system: str
    caption: str
    bleu: float | None = None


@dataclass(frozen=True)
class Captioned:
    """One test image: its name, its reference captions as they were read, what was said of it."""

    image: str
    references: tuple[str, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True)
class ImageTestSet:
    """The test set of a run, in the order of its hypotheses: N names, N lists of captions, and of their words."""

    names: list[str]
    captions: list[list[str]]
    words: list[list[list[str]]]


@dataclass(frozen=True)
class _System:
    """A system of one run, still without captions."""

    folder: RunFolder
    settings: Settings
    stage: str
    label: str
    last: bool = False


def caption_images(
    paths: Sequence[str | Path], images: Sequence[str], *, bleu: bool = False, last: bool = False
) -> list[Captioned]:
    """What the final system of each run, and the maximum likelihood it started from, said of some test images.

    Captions come from the run's hypotheses; without these they are decoded anew. A start that several runs share is shown once.

    Args:
        paths: run folders.
        images: names of test images.
        bleu: also the sentence BLEU of each caption.
        last: final systems with the weights of their last validation, decoded anew, instead of the selected ones (which are
            the start's where no validation was better).

    Raises:
        ValueError: a run that reads no images or has another test set, an image that is not in it, or hypotheses
            that are not those of the test set; names the run or the image.
    """
    test = read_test_set(paths)
    rows = _rows(test, images)
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for system in _systems(paths, last=last):
        found.setdefault((system.label, tuple(_captions(system, test, rows))))
    return [
        Captioned(
            image=test.names[row],
            references=tuple(test.captions[row]),
            said=tuple(
                Said(label, captions[place], _bleu(captions[place], test.words[row]) if bleu else None)
                for label, captions in found
            ),
        )
        for place, row in enumerate(rows)
    ]


def read_test_set(paths: Sequence[str | Path]) -> ImageTestSet:
    """The test set that the runs share; raises ValueError naming the first that has another."""
    first, *others = paths
    test = _read_test(first)
    for other in others:
        if _read_test(other) != test:
            raise ValueError(f"{other} has another test set than {first}")
    return test


def _read_test(path: str | Path) -> ImageTestSet:
    """Images without a caption of the allowed length are left out where the run's test left them out."""
    settings = config.load(Settings, RunFolder.open(path).config_path)
    if settings.data.kind != "captions":
        raise ValueError(f"{path} is a run on {settings.data.kind} text; a sheet is of runs on images")
    data = settings.data
    kind: CaptionFormat = data.captions
    tokenizer = CaptionTokenizer(punctuation=data.punctuation)
    skip = data.empty_lines == "skip"
    (read,) = read_caption_splits(data.path, (data.test,), format=kind, keep_empty=skip)
    if skip:
        read = read.without_empty(tokenizer, drop_images=False)
    longest = data.max_length if settings.evaluation.drop_long else None
    names, captions, words = [], [], []
    for name, group in zip(read.images, read.captions, strict=True):
        tokens = [tokenizer.tokenize(caption) for caption in group]
        kept = [k for k, caption in enumerate(tokens) if longest is None or len(caption) <= longest]
        if kept:
            names.append(name)
            captions.append([group[k] for k in kept])
            words.append([tokens[k] for k in kept])
    return ImageTestSet(names, captions, words)


def _rows(test: ImageTestSet, images: Sequence[str]) -> list[int]:
    places = {name: row for row, name in enumerate(test.names)}
    for image in images:
        if image not in places:
            raise ValueError(f"image {image!r} is not in the test set of the runs")
    return [places[image] for image in images]


def _systems(paths: Sequence[str | Path], *, last: bool) -> list[_System]:
    """The first and the last system of every run, maximum likelihood first, each with a name of its own."""
    opened: list[tuple[RunFolder, Settings, str, SystemResult]] = []
    for path in paths:
        folder = RunFolder.open(path)
        settings = config.load(Settings, folder.config_path)
        stages = actor_stages(settings)
        for stage in dict.fromkeys((stages[0], stages[-1])):
            likelihood = algorithm_of(settings).spec(stage).likelihood
            system = "MLE" if likelihood else settings.label or algorithm_name(settings)
            deciding = deciding_settings(settings, stage)
            result = SystemResult(
                folder.path, settings.seed, system, stage, stage == stages[-1], deciding, {}, ""
            )
            opened.append((folder, settings, stage, result))
    several_seeds = len({settings.seed for _, settings, _, _ in opened}) > 1
    systems = []
    for folder, settings, stage, result in sorted(opened, key=lambda entry: entry[2] != "actor"):
        siblings: dict[str, SystemResult] = {}
        for _, _, _, other in opened:
            if other.system == result.system:
                siblings.setdefault(repr(other.settings), other)
        label = name_among(result, list(siblings.values()))[0]
        if several_seeds:
            label = f"{label}, seed {settings.seed}"
        unselected = last and stage != "actor"
        systems.append(
            _System(folder, settings, stage, f"{label} (last)" if unselected else label, unselected)
        )
    return systems


def _captions(system: _System, test: ImageTestSet, rows: Sequence[int]) -> list[str]:
    name = f"test-{system.stage}"
    path = system.folder.path / "hypotheses" / f"{name}.txt"
    if system.last or not path.is_file():
        return _decode(system, [test.names[row] for row in rows])
    lines = system.folder.read_hypotheses(name)
    if len(lines) != len(test.names):
        raise ValueError(f"{path} has {len(lines)} lines, the test set {len(test.names)} images")
    return [lines[row] for row in rows]


def _decode(system: _System, images: Sequence[str]) -> list[str]:
    """Captions of the named images by the selected actor of a stage, or by its last one."""
    actor = load_run(system.folder.path, f"{system.stage}-last" if system.last else system.stage)
    corpus = recorded_task(system.folder.path, system.settings).test
    assert isinstance(corpus, CaptionCorpus)
    rows = [corpus.images.index(image) for image in images]
    chosen = replace(
        corpus,
        images=[corpus.images[row] for row in rows],
        rows=[corpus.rows[row] for row in rows],
        references=[corpus.references[row] for row in rows],
        reference_texts=[corpus.reference_texts[row] for row in rows],
    )
    evaluation = system.settings.evaluation
    batches = corpus_batches(chosen, evaluation.batch_size)
    return translate_corpus(
        actor.models[0], batches, actor.target_codec, evaluation, device=torch.device("cpu")
    )


def _bleu(caption: str, references: Sequence[Sequence[str]]) -> float:
    """Sentence BLEU of 0 to 100, one added to the counts of bigrams and longer n-grams, against all references."""
    hypothesis = caption.split()
    if not hypothesis:
        return 0.0
    words = {
        word: number
        for number, word in enumerate(dict.fromkeys([*hypothesis, *(w for r in references for w in r)]))
    }
    longest = max(map(len, references))
    padded = torch.tensor([[[words[word] for word in r] + [0] * (longest - len(r)) for r in references]])
    score = sentence_bleu(
        torch.tensor([[words[word] for word in hypothesis]]),
        padded,
        reference_lengths=torch.tensor([[len(reference) for reference in references]]),
        smoothing="add-k",
        dtype=torch.float64,
    )
    return 100 * float(score)

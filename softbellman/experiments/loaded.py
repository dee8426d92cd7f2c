"""A finished run in one's hands: `softbellman.load_run(DIR)` translates or captions, scores, and tells the credit of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from softbellman.core.objects import UserObject
from softbellman.data import CaptionCorpus, Corpus, ImageFeatures, ImagePixels, PixelSpec
from softbellman.data.scenes import scenes_of
from softbellman.experiments.collect import actor_stages
from softbellman.experiments.credited import open_run, typed_corpus
from softbellman.experiments.outputs import read_outputs
from softbellman.experiments.rows import Table
from softbellman.experiments.token_credit import CreditedRun, credit_hypothesis
from softbellman.training import trained
from softbellman.training.algorithms import Algorithm
from softbellman.training.evaluation import corpus_bleu, further_metrics, sentence_bleu_scores
from softbellman.training.handed import ModelFunction, take_handed
from softbellman.training.images import PHOTO_SIDE, image_batches
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.resumption import recorded_task
from softbellman.training.runfolder import RunFolder
from softbellman.training.task import Task
from softbellman.training.trained import TrainedActor
from softbellman.training.translation import Hypothesis, captions, decoding_of, translations

SPLITS = ("train", "dev", "test")

CREDIT_COLUMNS = (
    "token",
    "probability",
    "reward",
    "q",
    "value",
    "advantage",
    "entropy",
    "oracle_target",
    "oracle_wants",
)
"""Columns of `Run.credit`, explained at `TokenCredit`."""


@dataclass(frozen=True)
class Run(TrainedActor):
    """A finished run: its actor, and on demand its data, its test outputs and its critic.

    Attributes:
        path: of the folder.
        checkpoint: what was loaded.
        device: where the networks are.
        payoff: what was handed over as the run's payoff; only `credit` asks for it.
        handed: what else was handed over, by argument: another run of this process may have its own under the same names.

    Example:
        >>> import softbellman
        >>> run = softbellman.load_run("runs/erac")  # doctest: +SKIP
        >>> run.translate(["der hund sieht die katze"], beam=8)  # doctest: +SKIP
        ['the dog sees the cat']
    """

    path: Path = field(default_factory=Path)
    checkpoint: str = "best"
    device: str = "cpu"
    payoff: UserObject | None = None
    handed: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        does = "captions images" if self.source_codec is None else "translates"
        more = f", with {len(self.others)} others" if self.others else ""
        return f"Run({str(self.path)!r}: {self.settings.algorithm}, {does}, checkpoint {self.checkpoint!r}{more})"

    def translate(self, sentences: Sequence[str], **options: Any) -> list[str]:
        """The best translation of each sentence; an empty one stays empty.

        Args:
            sentences: tokenised as the run's training text was.
            options: of `softbellman.decoding.Decoding`, over the run's own; `samples=1` draws instead of searching.

        Raises:
            ValueError: the run captions images, or options give several hypotheses of a sentence, for which `hypotheses` is.
        """
        if self.source_codec is None:
            raise ValueError(f"{self.path} captions images, it does not translate: use caption")
        return _single(self.hypotheses(sentences, **options))

    def caption(
        self, images: Any, *, encoder: str = "", weights: str = "", size: int = PHOTO_SIDE, **options: Any
    ) -> list[str]:
        """The best caption of each image.

        Args:
            images: rows [F] or [G, F] of features, or [3, P, P] of pixels (uint8), in a tensor, an array or a list; or files.
            encoder, weights, size: image network that files go through where the run reads features; the run's by default.
            options: of `softbellman.decoding.Decoding`, over the run's own.

        Raises:
            ValueError: the run translates text, rows of another shape, or several hypotheses of an image.
        """
        if self.features is None:
            raise ValueError(f"{self.path} translates text, it does not caption: use translate")
        return _single(self.hypotheses(images, encoder=encoder, weights=weights, size=size, **options))

    def hypotheses(
        self, sources: Any, *, encoder: str = "", weights: str = "", size: int = PHOTO_SIDE, **options: Any
    ) -> list[list[Hypothesis]]:
        """All hypotheses of each sentence or image, with scores: the `nbest` of a search, or `samples` draws.

        Args:
            sources: as in `translate` or `caption`.
            encoder, weights, size: as in `caption`.
            options: of `softbellman.decoding.Decoding`; `attention=True` keeps what was attended to.

        Raises:
            ValueError: an option out of its range, or one that the run's model has nothing for.
        """
        how = decoding_of(self.settings.evaluation, **options)
        if self.source_codec is None:
            batches = image_batches(
                self, sources, how.batch_size, encoder=encoder, weights=weights, size=size
            )
            return list(captions(self, batches, how))
        if isinstance(sources, str):
            raise ValueError(f"sentences must be a list of sentences, got one text {sources[:40]!r}")
        if encoder or weights:
            raise ValueError(f"{self.path} translates text, encoder and weights are for images")
        sentences = list(sources)
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        for index, group in translations(self, sentences, how):
            found[index] = group
        return found

    @cached_property
    def task(self) -> Task:
        """The run's data, read again; raises ResumeError where they are no longer those that it was trained on."""
        self._hand_over()
        return recorded_task(self.path, self.settings)

    def score(self, split: str = "test", **options: Any) -> dict[str, float | str]:
        """Decode a split of the run's data and score it: BLEU and the run's `evaluation.metrics`, 0 to 100.

        Args:
            split: test, dev or train.
            options: of `softbellman.decoding.Decoding`, over the run's own.

        Returns:
            Numbers by name, `length_ratio` and sacrebleu's `signature` among them.

        Raises:
            ValueError: no such split, or data that are no longer those of the run.
        """
        corpus, settings = self._split(split), self.settings
        lines = self.decode(split, **options)
        bleu = corpus_bleu(lines, corpus.reference_texts, tokenize=settings.evaluation.tokenize)
        others = further_metrics(
            settings.evaluation.of_texts,
            lines,
            corpus.reference_texts,
            settings.evaluation,
            scenes=scenes_of(corpus),
        )
        return {"bleu": bleu.score, **others, "length_ratio": bleu.length_ratio, "signature": bleu.signature}

    def decode(self, split: str = "test", **options: Any) -> list[str]:
        """The best hypothesis of each sentence or image of a split of the run's data, in its order.

        Args:
            split, options: as in `score`.

        Raises:
            ValueError: as in `score`.
        """
        corpus = self._split(split)
        if not isinstance(corpus, CaptionCorpus):
            return self.translate(corpus.source_texts, **options)
        how = decoding_of(self.settings.evaluation, **options)
        every = range(len(corpus))
        batches = (
            corpus.source_batch(every[start : start + how.batch_size])
            for start in range(0, len(corpus), how.batch_size)
        )
        return _single(list(captions(self, batches, how)))

    def _split(self, split: str) -> Corpus | CaptionCorpus:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        corpus: Corpus | CaptionCorpus = getattr(self.task, split)
        if self.settings.evaluation.drop_long:
            corpus = corpus.drop_longer(self.settings.data.max_length, name=split)
        return corpus

    def test(self, stage: str = "") -> Table:
        """What the run said on its test set when it ended: source, references, hypothesis, and the sentence's BLEU.

        Sentence BLEU is sacrebleu's with the orders that a sentence has (`eff:yes`), 0 to 100.

        Args:
            stage: whose actor; empty: the last one.

        Raises:
            ValueError: no such stage.
            RunFolderError: the run has no test outputs yet.
        """
        self._hand_over()
        stages = actor_stages(self.settings)
        if stage and stage not in stages:
            raise ValueError(f"stage must be one of {', '.join(stages)}, got {stage!r}")
        outputs = read_outputs(self.path, stage or stages[-1])
        scores = sentence_bleu_scores(
            outputs.hypotheses, outputs.test_set.references, tokenize=self.settings.evaluation.tokenize
        )
        columns = ("source", "references", "hypothesis", "bleu")
        rows = zip(
            outputs.test_set.sources, outputs.test_set.references, outputs.hypotheses, scores, strict=True
        )
        return Table([dict(zip(columns, row, strict=True)) for row in rows], columns)

    def credit(self, source: Any, reference: str | Sequence[str], hypothesis: str) -> Table:
        """What each token of a hypothesis is credited with; the columns are explained in docs/decoding.md.

        Args:
            source: a sentence; or an image, as one row or one file.
            reference: or several; critic and oracle read the first.
            hypothesis: what is judged; its end is judged, too.

        Raises:
            ValueError: the run learnt no critic, or is an ensemble.
        """
        self._hand_over()
        if not algorithm_of(self.settings).stages_with("values"):
            raise ValueError(
                f"{self.path} is a run of {self.settings.algorithm}, which learns no critic to give credit; ac and erac do"
            )
        if self.others:
            raise ValueError("credit is what one run gives, and this is an ensemble: load the run alone")
        references = [reference] if isinstance(reference, str) else list(reference)
        if self.source_codec is None:
            corpus: Corpus | CaptionCorpus = self._one_image(source, references)
        else:
            corpus = typed_corpus(self._credited, [(source, references)])
        actions = [*self.target_codec.encode(hypothesis), self.target_codec.special.eos]
        found = credit_hypothesis(self._credited, corpus, 0, hypothesis, actions)
        rows = [{name: getattr(token, name) for name in CREDIT_COLUMNS} for token in found.tokens]
        return Table(
            rows, CREDIT_COLUMNS, title=f"payoff {found.payoff:.2f}, score {found.score:.4f}: {hypothesis}"
        )

    @cached_property
    def _credited(self) -> CreditedRun:
        return open_run(self.path, self.checkpoint, device=self.device, payoff=self.payoff)

    def _hand_over(self) -> None:
        """Have this process know again what was handed over to this run."""
        take_handed(self.path, **self.handed)

    def _one_image(self, image: Any, references: Sequence[str]) -> CaptionCorpus:
        (row,) = next(image_batches(self, [image], 1)).numpy()
        features: ImageFeatures | ImagePixels
        if isinstance(self.features, PixelSpec):
            features = ImagePixels(np.ascontiguousarray(row.transpose(1, 2, 0))[None], ["the image"])
        else:
            features = ImageFeatures(row[None], ["the image"])
        words = [self.target_codec.tokenizer.tokenize(text) for text in references]
        ids = [self.target_codec.vocabulary.encode(group) for group in words]
        return CaptionCorpus(["the image"], [0], [ids], [[" ".join(group) for group in words]], features)


def load_run(
    path: str | Path,
    checkpoint: str = "best",
    *,
    device: str = "cpu",
    ensemble: Sequence[str | Path] = (),
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
    payoff: Any = None,
    data: Any = None,
) -> Run:
    """Open a finished run to use it: translate or caption, score, look at credit.

    Args:
        path, checkpoint, device, ensemble: as in `softbellman.training.load_run`, whose result is the networks alone.
        algorithm, model, payoff, data: what was handed over to `softbellman.training.run` and no name leads to. The
            payoff is wanted by `credit` alone, the data by `credit` and `score`.

    Raises:
        ValueError: as `softbellman.training.load_run`; or a payoff or a data set that is not the run's, by name.
    """
    given = take_handed(path, algorithm=algorithm, model=model, payoff=payoff, data=data)
    actor = trained.load_run(path, checkpoint, device=device, ensemble=ensemble)
    folder = RunFolder.open(path).path
    handed = {"algorithm": algorithm, "model": model, "data": data}
    return Run(**vars(actor), path=folder, checkpoint=checkpoint, device=device, payoff=given, handed=handed)


def _single(groups: Sequence[Sequence[Hypothesis]]) -> list[str]:
    """The only text of each group, empty of an empty one."""
    if any(len(group) > 1 for group in groups):
        raise ValueError("nbest and samples give several hypotheses of a source: use run.hypotheses")
    return [group[0].text if group else "" for group in groups]

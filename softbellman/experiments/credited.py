"""Which sentences are judged token by token, and by which run: `softbellman credit`.

For each sentence these hypotheses are judged: the actor's beam search, a sequence drawn from it, the reference, and those that
were typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from softbellman import config
from softbellman.core.objects import UserObject
from softbellman.data import CaptionCorpus, Corpus, ParallelText
from softbellman.decoding import beam_search, sample
from softbellman.experiments.token_credit import CreditedRun, CreditedSentence, credit_hypothesis
from softbellman.payoffs.payoff import describe_payoff
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.payoffs import build_payoff
from softbellman.training.record import recorded_objects
from softbellman.training.resumption import recorded_task
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings, follow_data
from softbellman.training.trained import load_critic, load_oracle, load_run


def open_run(
    path: Path,
    checkpoint: str = "best",
    *,
    oracle_tau: float | None = None,
    device: str = "cpu",
    payoff: UserObject | None = None,
) -> CreditedRun:
    """Load the networks of a run and its data.

    Args:
        path: run folder.
        checkpoint: of the actor, as in `load_run`; the critic is that of the same stage where the stage trained one.
        oracle_tau: temperature of the exact oracle; None: the learnt oracle's, else `completion.tau`.
        device: where the networks go.
        payoff: what was handed over to the run as its payoff, where no name leads to it.

    Raises:
        ResumeError: the data are no longer those of the run.
    """
    folder = RunFolder.open(path)
    settings = follow_data(config.load(Settings, folder.config_path))
    algorithm = algorithm_of(settings)
    actor = load_run(path, checkpoint, device=device)
    critic = load_critic(path, checkpoint, device=device) if algorithm.stages_with("values") else None
    oracle = load_oracle(path, device=device) if algorithm.stages_with("oracle") else None
    task = recorded_task(path, settings)
    scored_by = build_payoff(
        settings, task, device=torch.device("cpu"), given=payoff, recorded=recorded_objects(path)
    )
    if oracle_tau is None:
        oracle_tau = oracle.tau if oracle is not None else settings.completion.tau
    facts = {
        "run": str(path),
        "algorithm": algorithm.title,
        "checkpoint": checkpoint,
        "payoff": describe_payoff(settings.payoff),
        "exact oracle": f"edit distance to the first reference, tau {oracle_tau:g}",
    }
    if critic is not None:
        facts["Q"] = f"{'target critic' if critic.averaged else 'critic'}, tau {critic.tau:g}"
    if oracle is not None:
        facts["learnt oracle"] = f"tau {oracle.tau:g}"
    return CreditedRun(actor, critic, oracle, task, scored_by, oracle_tau, facts)


def typed_corpus(run: CreditedRun, lines: Sequence[tuple[str, Sequence[str]]]) -> Corpus:
    """Typed sentences as a corpus of the run's vocabularies.

    Args:
        run: one that reads text.
        lines: a source and at least one reference each.

    Raises:
        ValueError: the run reads images.
    """
    if run.actor.source_codec is None:
        raise ValueError(f"{run.facts['run']} captions images, it reads no sentence")
    text = ParallelText([source for source, _ in lines], [list(references) for _, references in lines])
    source, target = run.actor.source_codec, run.actor.target_codec
    return Corpus.from_text(
        text,
        source.vocabulary,
        target.vocabulary,
        source_tokenizer=source.tokenizer,
        target_tokenizer=target.tokenizer,
    )


def credit_sentences(
    run: CreditedRun,
    corpus: Corpus | CaptionCorpus,
    numbers: Sequence[int],
    *,
    split: str,
    typed: Sequence[str] = (),
    seed: int = 1,
    images: Path | None = None,
) -> list[CreditedSentence]:
    """Judge hypotheses of some sentences of a corpus.

    Args:
        run: of `open_run`.
        corpus: of the run's task, or `typed_corpus`.
        numbers: of the sentences, counted from 1 as lines are.
        split: name of the corpus.
        typed: further hypotheses, judged for each sentence.
        seed: of the drawn sequence; with the sentence's number it decides the draw.
        images: folder of the photographs, by their names; None: `images` beside the captions, where it is.

    Raises:
        ValueError: a number without a sentence.
    """
    for number in numbers:
        if not 1 <= number <= len(corpus):
            raise ValueError(f"sentence {number}: {split} has sentences 1 to {len(corpus)}")
    return [_credit_sentence(run, corpus, number - 1, split, typed, seed, images) for number in numbers]


def _credit_sentence(
    run: CreditedRun,
    corpus: Corpus | CaptionCorpus,
    index: int,
    split: str,
    typed: Sequence[str],
    seed: int,
    images: Path | None,
) -> CreditedSentence:
    reference = corpus.references[index][0]
    source = corpus.source_batch([index])
    own, evaluation, codec = run.actor, run.settings.evaluation, run.actor.target_codec
    place = next(own.model.parameters()).device
    with torch.inference_mode():
        best = beam_search(
            own.model,
            source.to(place),
            beam=evaluation.beam,
            max_length=evaluation.max_length,
            length_penalty=evaluation.length_penalty,
            special=codec.special,
        )
        drawn = sample(
            own.model,
            source.to(place),
            max_length=evaluation.max_length,
            seed=seed,
            first_row=index,
            special=codec.special,
        )
    found = "greedy search" if evaluation.beam == 1 else f"beam search of {evaluation.beam}"
    sequences = {
        found: best.tokens[0, : best.lengths[0]].tolist(),
        f"drawn, seed {seed}": drawn.tokens[0, : drawn.lengths[0]].tolist(),
        "reference": [*reference, codec.special.eos],
    }
    for text in typed:
        sequences[f"typed: {text}"] = [*codec.encode(text), codec.special.eos]
    scored = len(corpus.references[index]) if run.settings.payoff.references == "all" else 1
    return CreditedSentence(
        name=f"{split} {index + 1}",
        source=corpus.images[index] if isinstance(corpus, CaptionCorpus) else corpus.source_texts[index],
        references=tuple(corpus.reference_texts[index]),
        scored=scored,
        hypotheses=tuple(
            credit_hypothesis(run, corpus, index, title, actions)
            for title, actions in sequences.items()
            if actions
        ),
        photo=_photo(run, corpus, index, images),
    )


def _photo(run: CreditedRun, corpus: Corpus | CaptionCorpus, index: int, images: Path | None) -> Any:
    """Pillow's image of a source: drawn for scenes, read for photographs; None where there is none."""
    if not isinstance(corpus, CaptionCorpus):
        return None
    from softbellman.data.captions.pixels import import_pillow, open_image

    if run.task.reads == "pixels":
        return import_pillow().fromarray(corpus.source_batch([index])[0].permute(1, 2, 0).numpy())
    captions = Path(run.settings.data.path)
    folder = images or (captions if captions.is_dir() else captions.parent) / "images"
    path = folder / corpus.images[index]
    return open_image(path) if images is not None or path.is_file() else None

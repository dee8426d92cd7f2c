"""One description of how a run's model is decoded, whether by search or by sampling, and what comes out for each source.

Notation: B sources, R hypotheses of each, T steps, S source positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.attention import attention_of, coverage
from softbellman.decoding.beam import STEEPEST, beam_search
from softbellman.decoding.nucleus import check_truncation
from softbellman.decoding.sampling import sample
from softbellman.decoding.stepwise import LastScore, StepwiseModel
from softbellman.decoding.wrappers import Ensemble, Unrepetitive

MOST = 2**31 - 1
"""The largest count that is taken."""


@dataclass(frozen=True)
class Decoding:
    """How hypotheses are found.

    Attributes:
        beam: open hypotheses of the search; 1 is greedy.
        max_length: longest hypothesis in tokens, the end included.
        batch_size: sources decoded together.
        length_penalty: exponent of `((5 + length) / 6)`, the divisor of the log-probability.
        coverage_penalty: weight of `coverage` that is added to the score of each of the beam's best hypotheses, which are then
            ranked anew; for models with attention. 0: none.
        nbest: hypotheses of each source that a search returns, at most `beam`.
        samples: sequences drawn for each source instead of a search; 0: search.
        temperature, top_k, top_p, seed: of `sample`.
        repetition_penalty, block_ngrams: of `Unrepetitive`.
        replace_unknown: UNK may be produced, and becomes the source token most attended to.
        attention: keep the attention of each hypothesis.

    Raises:
        ValueError: a number out of its range; names it.
    """

    beam: int = 5
    max_length: int = 60
    batch_size: int = 100
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    nbest: int = 1
    samples: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1
    repetition_penalty: float = 1.0
    block_ngrams: int = 0
    replace_unknown: bool = False
    attention: bool = False

    def __post_init__(self) -> None:
        least = {
            "beam": 1,
            "max_length": 1,
            "batch_size": 1,
            "nbest": 1,
            "samples": 0,
            "top_k": 0,
            "block_ngrams": 0,
        }
        for name, smallest in least.items():
            if not smallest <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} must be from {smallest} to 2**31 - 1, got {getattr(self, name)}")
        if not -STEEPEST <= self.length_penalty <= STEEPEST:
            raise ValueError(
                f"length_penalty must be from {-STEEPEST:g} to {STEEPEST:g}, got {self.length_penalty:g}"
            )
        if not 0.0 <= self.coverage_penalty < math.inf:
            raise ValueError(f"coverage_penalty must be at least 0 and finite, got {self.coverage_penalty:g}")
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature:g}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        check_truncation(self.top_k, self.top_p)
        if not 1.0 <= self.repetition_penalty < math.inf:
            raise ValueError(
                f"repetition_penalty must be at least 1 and finite, got {self.repetition_penalty:g}"
            )
        if self.samples == 0:
            self._check_search()
        elif self.nbest > 1 or self.coverage_penalty:
            raise ValueError(
                "nbest and coverage_penalty are of a search, and samples are drawn instead of it"
            )

    def _check_search(self) -> None:
        if self.nbest > self.beam:
            raise ValueError(f"nbest must be at most the beam size {self.beam}, got {self.nbest}")
        drawing = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        for name, neutral in drawing.items():
            if getattr(self, name) != neutral:
                raise ValueError(f"{name} is of sampling; it needs samples, of which there are 0")

    def _check_scores(self, models: Sequence[object]) -> None:
        neutral = {"samples": 0, "length_penalty": 0.0, "repetition_penalty": 1.0, "block_ngrams": 0}
        changed = [name for name, value in neutral.items() if getattr(self, name) != value]
        if len(models) > 1 or changed:
            raise ValueError(
                f"{changed[0] if changed else 'an ensemble'} needs probabilities, but the model gives scores of whole prefixes "
                "(beam search optimisation)"
            )

    @property
    def several(self) -> bool:
        """Whether a source has a list of hypotheses rather than one."""
        return self.samples > 0 or self.nbest > 1

    def of_model(
        self, models: Sequence[nn.Module | StepwiseModel], special: SpecialTokens = RESERVED
    ) -> nn.Module | StepwiseModel:
        """What is decoded: one model, or an ensemble of several, under the rules against repetition.

        Raises:
            ValueError: a `LastScore` model with options that ask for probabilities.
        """
        if any(isinstance(model, LastScore) for model in models):
            self._check_scores(models)
        forbidden = special.unspoken if self.replace_unknown else special.never
        model: nn.Module | StepwiseModel = (
            models[0] if len(models) == 1 else Ensemble(models, forbidden=forbidden)
        )
        if self.repetition_penalty > 1.0 or self.block_ngrams:
            model = Unrepetitive(
                model, penalty=self.repetition_penalty, block_ngrams=self.block_ngrams, special=special
            )
        return model


class Found(NamedTuple):
    """A hypothesis.

    Attributes:
        tokens: its ids, the end included where it has one.
        score: what it is ranked by; of a drawn one its log-probability under the distribution drawn from.
        attention: `[T, S]` on the CPU where it is kept.
    """

    tokens: list[int]
    score: float
    attention: Tensor | None = None


@torch.inference_mode()
def decode(
    model: nn.Module | StepwiseModel,
    source: Tensor,
    how: Decoding,
    *,
    first: int = 0,
    special: SpecialTokens = RESERVED,
) -> list[list[Found]]:
    """The hypotheses of each source, best first or in the order they were drawn.

    Args:
        model: `how.of_model(...)`, in evaluation mode.
        source: [B, ...] on the model's device.
        how: what is done.
        first: number of the first source among all; decides what is drawn.
        special: ids of padding, start, end and unknown words in the model's vocabulary.

    Raises:
        ValueError: attention is needed, and the model has none; or what `sample` and `beam_search` raise.
    """
    common: dict[str, Any] = {
        "max_length": how.max_length,
        "allow_unknown": how.replace_unknown,
        "special": special,
    }
    if how.samples:
        drawn = sample(
            model, source, samples=how.samples, seed=how.seed, temperature=how.temperature,
            top_k=how.top_k, top_p=how.top_p, first_row=first * how.samples, **common,
        )  # fmt: skip
        tokens, lengths, scores = drawn.tokens, drawn.lengths, drawn.log_probs.double().sum(dim=1)
        rows = how.samples
    else:
        rows = how.beam if how.coverage_penalty else how.nbest
        best = beam_search(
            model, source, beam=how.beam, length_penalty=how.length_penalty, best=rows, **common
        )
        tokens, lengths, scores = best
    attention = None
    if (how.attention or how.coverage_penalty or how.replace_unknown) and len(tokens):
        attention = attention_of(model, source, tokens, special=special)
    if how.coverage_penalty and attention is not None:
        real = _real_positions(source, attention.shape[2], special.pad).repeat_interleave(rows, dim=0)
        scores = scores + how.coverage_penalty * coverage(attention, lengths, real)
    found = [
        Found(row[:length], score, None if attention is None else attention[number, :length].cpu())
        for number, (row, length, score) in enumerate(
            zip(tokens.tolist(), lengths.tolist(), scores.tolist(), strict=True)
        )
    ]
    groups = [found[start : start + rows] for start in range(0, len(found), rows)]
    if how.samples:
        return groups
    ranked = [sorted((one for one in group if one.tokens), key=lambda one: -one.score) for group in groups]
    return [group[: how.nbest] for group in (ranked if how.coverage_penalty else _present(groups))]


def _present(groups: list[list[Found]]) -> list[list[Found]]:
    return [[one for one in group if one.tokens] for group in groups]


def _real_positions(source: Tensor, positions: int, pad: int) -> Tensor:
    """The source positions that coverage counts, bool [B, S]: tokens that are no padding, or all of an image's."""
    if source.dim() == 2 and not source.is_floating_point():
        return source != pad
    return torch.ones(len(source), positions, dtype=torch.bool, device=source.device)

"""Decoding: sampling and beam search for any model that maps (source, target prefix) to logits."""

from softbellman.decoding.beam import Hypotheses, beam_search, greedy_search
from softbellman.decoding.sampling import Sampler, Samples, sample
from softbellman.decoding.stepwise import (
    PrefixState,
    StepState,
    StepwiseModel,
    StepwiseModule,
    Tempered,
    as_stepwise,
)

__all__ = [
    "Hypotheses",
    "PrefixState",
    "Sampler",
    "Samples",
    "StepState",
    "StepwiseModel",
    "StepwiseModule",
    "Tempered",
    "as_stepwise",
    "beam_search",
    "greedy_search",
    "sample",
]

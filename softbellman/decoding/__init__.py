"""Decoding: sampling and beam search for any model that maps (source, target prefix) to logits."""

from softbellman.decoding.attention import attention_of, coverage
from softbellman.decoding.beam import Hypotheses, beam_search, greedy_search
from softbellman.decoding.decode import Decoding, Found, decode
from softbellman.decoding.guided import ActionValue, Guided
from softbellman.decoding.margin import Violations, margin_search
from softbellman.decoding.sampling import Sampler, Samples, sample
from softbellman.decoding.stepwise import (
    LastScore,
    PrefixState,
    StepState,
    StepwiseModel,
    StepwiseModule,
    Tempered,
    as_stepwise,
)
from softbellman.decoding.wrappers import Ensemble, Unrepetitive

__all__ = [
    "ActionValue",
    "Decoding",
    "Ensemble",
    "Found",
    "Guided",
    "Hypotheses",
    "LastScore",
    "PrefixState",
    "Sampler",
    "Samples",
    "StepState",
    "StepwiseModel",
    "StepwiseModule",
    "Tempered",
    "Unrepetitive",
    "Violations",
    "as_stepwise",
    "attention_of",
    "beam_search",
    "coverage",
    "decode",
    "greedy_search",
    "margin_search",
    "sample",
]

"""Models of Hugging Face transformers: their output layer as a `Head`, and losses inside a wrapped forward pass.

The trainers are imported when they are first named, and TRL with them.
"""

from __future__ import annotations

import importlib
from typing import Any

from softbellman.hf.heads import head_of
from softbellman.hf.hidden import hidden_of
from softbellman.hf.verification import verify_head
from softbellman.hf.wrapper import WithLoss

_TRAINERS = {
    "CompletionTrainer": "completion",
    "CreditGRPOTrainer": "grpo",
    "CreditSettings": "sequences",
    "OnPolicyDistillationTrainer": "distillation",
    "PrefixReward": "rewards",
    "Seq2SeqCreditTrainer": "seq2seq",
}
"""Names that need TRL or more of transformers, and where they are; `from softbellman.hf import *` leaves them out."""

__all__ = ["WithLoss", "head_of", "hidden_of", "verify_head"]


def __getattr__(name: str) -> Any:
    if name in _TRAINERS:
        return getattr(importlib.import_module(f"softbellman.hf.{_TRAINERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_TRAINERS})

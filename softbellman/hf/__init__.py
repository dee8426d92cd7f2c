"""Models of Hugging Face transformers: their output layer as a `Head`, and losses inside a wrapped forward pass."""

from __future__ import annotations

from softbellman.hf.heads import head_of
from softbellman.hf.hidden import hidden_of
from softbellman.hf.verification import verify_head
from softbellman.hf.wrapper import WithLoss

__all__ = ["WithLoss", "head_of", "hidden_of", "verify_head"]

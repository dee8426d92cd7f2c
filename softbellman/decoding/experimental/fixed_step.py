"""A step of sampling on tensors that stay where they are, so that a graph of it can be replayed.

Seed, offset and position are read from memory, finished rows are closed rather than taken out, nothing waits for the device.

Notation: N rows, T steps, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.experimental.state import OwnState
from softbellman.decoding.sampling import Samples, check_drawn, drawn_verdict
from softbellman.decoding.stepwise import StepState, StepwiseModel
from softbellman.losses import sample_tokens
from softbellman.models.projection import bfloat16_in_use, bfloat16_products


class Form(NamedTuple):
    """What a step is made for, beside the shapes of its state."""

    rows: int  # N
    steps: int  # T
    temperature: float
    keep_logits: bool
    special: SpecialTokens = RESERVED


class FixedStep:
    """One step of sampling on tensors that stay where they are; to be loaded before the first of a batch.

    Attributes:
        open: rows that go on, bool [N].
        banned: tokens that are never drawn, bool [V].
        logits: of the latest step, [N, V], where they are kept.
    """

    def __init__(self, model: StepwiseModel, state: StepState, form: Form, device: torch.device) -> None:
        self._model, self._temperature, self._special = model, form.temperature, form.special
        self._state = OwnState(state)
        self._state.load(state)
        first = torch.full((form.rows,), form.special.bos, dtype=torch.int64, device=device)
        with bfloat16_products(bfloat16_in_use()):
            logits, _ = model.step(first, self._state.value)  # says V and the type
        self.logits = torch.zeros_like(logits) if form.keep_logits else None
        self._first, self._current = first, first.clone()
        self.open = torch.ones(form.rows, dtype=torch.bool, device=device)
        self.banned = torch.zeros(logits.shape[1], dtype=torch.bool, device=device)
        self._limits = first.clone()  # [N]
        self._lengths = torch.zeros_like(first)  # [N]
        self._seed, self._offset, self._position, self._first_row = first.new_zeros(4, 1).unbind()
        self._rows = torch.arange(form.rows, device=device)
        self._tokens = first.new_zeros(form.steps, form.rows)  # [T, N]
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self._log_probs = logits.new_zeros(form.steps, form.rows, dtype=dtype)  # [T, N]

    def load(self, state: StepState, limits: Tensor, seed: int, offset: int, first_row: int = 0) -> None:
        """Begin with a state of N rows, of which those beyond the `limits` given, [n], are closed from the start."""
        self._state.load(state)
        self._current.copy_(self._first)
        self.open.fill_(True)[len(limits) :] = False
        self._limits[: len(limits)] = limits
        for results in (
            self._lengths,
            self._tokens,
            self._log_probs,
        ):  # nothing of the batch before is read again
            results.zero_()
        self._position.zero_()
        self._seed.fill_(seed)
        self._offset.fill_(offset)
        self._first_row.fill_(first_row)

    def __call__(self) -> None:
        """Draw a token for every open row."""
        # Within a block of its own: weights rounded here are then part of the step, not what an earlier one left.
        with bfloat16_products(bfloat16_in_use()):
            logits, after = self._model.step(self._current, self._state.value)
        draw = sample_tokens(
            logits,
            seed=self._seed,
            offset=self._offset,
            temperature=self._temperature,
            forbidden=self.banned,
            mask=self.open,
            row_numbers=self._rows + self._first_row,
        )
        if self.logits is not None:
            self.logits.copy_(logits)
        self._tokens.index_copy_(0, self._position, draw.tokens.unsqueeze(0))
        self._log_probs.index_copy_(0, self._position, draw.log_prob.unsqueeze(0))
        self._lengths += self.open
        self._position += 1
        self._offset += 1
        self.open &= (draw.tokens != self._special.eos) & (draw.tokens >= 0) & (self._limits > self._position)
        # -1 says that nothing could be drawn; it is reported at the end.
        self._current.copy_(draw.tokens.clamp(min=0))
        self._state.load(after)

    def results(self, rows: int, kept: Tensor | None) -> Samples:
        """What was drawn for the first `rows` rows, from one read of the device; kept logits are [T, N, V]."""
        verdict = torch.stack(drawn_verdict(self._tokens[:, :rows], self._log_probs[:, :rows]))
        *lengths, undefined, impossible = torch.cat([self._lengths[:rows], verdict]).tolist()
        check_drawn([undefined, impossible])
        longest = max(lengths)
        logits: Tensor | None = None
        if kept is not None:
            step, row = (torch.arange(longest)[:, None] < torch.tensor(lengths)).nonzero(as_tuple=True)
            drawn = (step * kept.shape[1] + row).to(kept.device)
            logits = kept.flatten(0, 1).index_select(0, drawn)  # (T, N, V) -> (M, V)
        return Samples(
            self._tokens[:longest, :rows].t().contiguous(),
            self._lengths[:rows].clone(),
            self._log_probs[:longest, :rows].t().contiguous(),
            logits,
        )

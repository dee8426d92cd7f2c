"""Values of completing a prefix by a suffix of a reference, with BLEU as payoff: an oracle without training.

The best completion of a prefix under BLEU is not known in closed form, as that under the edit distance is. These values
are the best over the completions that a reference offers: after the next token w comes any suffix z of any reference, the
empty one (the end at once) included. In the convention of Eq. (6) and (7) (Q is the payoff still to come, ending earns 0)

    Q(y_<t, w) = max_z R(y_<t w z) - R(y_<t);   Q(y_<t, eos) = 0

with R the BLEU of `prefix_bleu`, times the reference length where `scale` says so. So Q is a lower bound of the optimal
value, the maximum over all completions (docs/payoffs.md has the gap), and reached by a completion that is known. All
tokens that no reference holds have one value. Hence P = R * L values and one more describe a state, whatever V is.

Counts are exact: n-grams that cross from the prefix over w into the suffix are among them, and prefix and suffix share the
clip of an n-gram. Time O(T S (U + N)) a hypothesis, for S suffixes and U different tokens of the references, orders N.

Notation: B sources, K samples per source, R references per source, T and L padded lengths, V vocabulary, M selected states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import DTYPE_CODES, check_integer
from softbellman.core.operator import register
from softbellman.payoffs.batches import (
    LARGEST_ORDER,
    TokenBatch,
    check_batch,
    check_float_type,
    check_scale,
    run_batch,
)
from softbellman.payoffs.bleu import scoring_arguments
from softbellman.payoffs.edit_distance import check_completion_arguments, check_state_rows


class BleuCompletions(NamedTuple):
    """Values of every state in the form that does not grow with the vocabulary.

    Attributes:
        values: `[B, T, 1 + P]` or `[B, K, T, 1 + P]`: column 0 of the tokens that no reference holds, the others of
            `tokens`. A token that stands in several places has the same value in all. Zeros behind the end.
        tokens: the references' tokens, place by place, int64 `[B, P]`; `eos_id` where a reference has none or an id that is
            outside the vocabulary.
        states: where a state is, bool `[B, T]` or `[B, K, T]`: up to the one in which the end stands.
        vocabulary, eos_id, special_ids: as they were given.
    """

    values: Tensor
    tokens: Tensor
    states: Tensor
    vocabulary: int
    eos_id: int
    special_ids: tuple[int, ...]

    def spread(self, rows: Tensor | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
        """The values over the vocabulary, `[B, T, V]` or `[B, K, T, V]`, of some states `[M, V]`.

        The end has 0, special tokens `-inf`, states behind the end zeros.

        Args:
            rows: int64 `[M]`, places of states in the flattened `[B, T]` or `[B, K, T]`. None: all.
            dtype: float32, float64, bfloat16 or float16, to which the values are rounded; None: as they are.

        Raises:
            TypeError, ValueError: an argument of the wrong type, shape, device or range. Places outside the batch raise
                on the CPU and give zeros on a GPU.
        """
        if dtype is not None and dtype not in DTYPE_CODES:
            raise TypeError(f"dtype must be float32, float64, bfloat16 or float16, got {dtype}")
        compact = self.values.flatten(0, -2).to(dtype or self.values.dtype)  # [N T, 1 + P]
        real = self.states.flatten()
        place = torch.arange(len(real), device=real.device)
        if rows is not None:
            place, inside = _place_rows(rows, self.states)
            compact = compact.index_select(0, place).masked_fill(~inside[:, None], 0.0)
            real = real.index_select(0, place) & inside
        per_source = max(self.states[:1].numel(), 1)
        tokens = self.tokens.index_select(0, torch.div(place, per_source, rounding_mode="floor"))
        spread = compact[:, :1].repeat(1, self.vocabulary)  # (M, 1) -> (M, V)
        spread.scatter_(1, tokens, compact[:, 1:])
        if self.special_ids:
            never = torch.where(real, -torch.inf, 0.0).to(spread.dtype)
            specials = torch.tensor(self.special_ids, device=real.device)
            spread.index_copy_(1, specials, never[:, None].expand(-1, len(specials)))
        spread.select(1, self.eos_id).zero_()
        return spread if rows is not None else spread.view(*self.states.shape, self.vocabulary)


def bleu_completions(
    hypotheses: Tensor,
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    scale: str = "reference_length",
    dtype: torch.dtype = torch.float32,
) -> BleuCompletions:
    """`bleu_completion_values` in compact form: nothing of the size of the vocabulary is made.

    Takes what `bleu_completion_values` takes but `rows`; dtype is float32 or float64.
    """
    scoring = scoring_arguments(smoothing, smooth_value, effective_order)
    check_integer("max_order", max_order, 1, LARGEST_ORDER)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, None, unmatched_id)
    specials = check_completion_arguments(vocabulary, eos_id, special_ids)
    values: Tensor = suffix_values(
        *batch[:4],
        eos_id,
        unmatched_id,
        max_order,
        *scoring,
        vocabulary,
        specials,
        check_scale(scale),
        check_float_type(dtype),
    )
    return BleuCompletions(
        values,
        _column_tokens(references, batch.reference_lengths, vocabulary, eos_id),
        _before_the_end(hypotheses, batch.hypothesis_lengths, eos_id),
        vocabulary,
        eos_id,
        tuple(specials),
    )


def bleu_completion_values(
    hypotheses: Tensor,
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    scale: str = "reference_length",
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`Q(y_<t, w) = max_z R(y_<t w z) - R(y_<t)` of every next token w, z over the suffixes of the references.

    Entry t belongs to the state before token t of the hypothesis, up to the one in which the token `eos_id` stands.
    Nothing here has a gradient.

    Args:
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`. They may hold any id.
        references: int64 tokens `[B, L]` or `[B, R, L]`, shared by the K hypotheses of a source. Ids outside [0, V)
            raise on the CPU; on a GPU, where looking for them would wait for the device, they count as tokens that
            cannot be produced.
        vocabulary: V, from 1 to 2**30.
        eos_id: in [0, V), the action that ends a sequence; hypotheses and references are cut before it.
        hypothesis_lengths: tokens that count, eos included where it is there, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]` or `[B, R]`, 0 where a reference is absent; None: all L.
        special_ids: up to 16 ids in [0, V) that are never produced (padding, start, unknown). Their value is
            `-inf`, but `eos_id` keeps its own where it is among them. In a suffix they match nothing: any token
            of no reference may stand there.
        max_order, smoothing, smooth_value, effective_order, unmatched_id: as in `prefix_bleu`.
        scale: "reference_length" multiplies by the mean length of the source's references, "none" does not.
        rows: int64 `[M]`, places of states in the flattened `[B, T]` or `[B, K, T]`, in any order.
        dtype: float32, float64, bfloat16 or float16; values are computed in float64.

    Returns:
        Values in the unit of the payoff, `[B, T, V]` or `[B, K, T, V]`, with `rows` `[M, V]`; zeros in the states
        behind the end, and throughout where a source has no reference.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range; `rows` as in
            `optimal_completion_values`.

    Example:
        >>> bleu_completion_values(  # after token 1 the best is to go on with 2 and 3; 0 ends
        ...     torch.tensor([[1, 0]]), torch.tensor([[1, 2, 3]]), vocabulary=5, eos_id=0, max_order=2
        ... )
        tensor([[[0.0000, 3.0000, 2.2500, 2.2500, 2.2500],
                 [0.0000, 1.8440, 2.5940, 1.4311, 1.4311]]])
    """
    found = bleu_completions(
        hypotheses,
        references,
        vocabulary=vocabulary,
        eos_id=eos_id,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        special_ids=special_ids,
        max_order=max_order,
        smoothing=smoothing,
        smooth_value=smooth_value,
        effective_order=effective_order,
        unmatched_id=unmatched_id,
        scale=scale,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
    )
    return found.spread(rows, dtype=dtype)


def _place_rows(rows: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Places that can be read, and which of them were asked for."""
    check_state_rows(rows, states)
    inside = (rows >= 0) & (rows < states.numel())
    if rows.is_cpu and not torch.compiler.is_compiling() and not bool(inside.all()):
        first = int(rows[~inside][0])
        raise ValueError(f"rows must lie between 0 and {states.numel() - 1}, got {first}")
    return rows.masked_fill(~inside, 0), inside


def _column_tokens(references: Tensor, lengths: Tensor | None, vocabulary: int, eos_id: int) -> Tensor:
    """What the values' columns but the first stand for. `[B, L]` or `[B, R, L]` -> `[B, P]`."""
    absent = (references < 0) | (references >= vocabulary)
    absent |= (references == eos_id).cumsum(-1) > 0
    if lengths is not None:
        absent |= torch.arange(references.shape[-1], device=references.device) >= lengths[..., None]
    return references.masked_fill(absent, eos_id).flatten(1)


def _before_the_end(hypotheses: Tensor, lengths: Tensor | None, eos_id: int) -> Tensor:
    """Where a state is: up to the first end and within the length. `[..., T]`."""
    ends = (hypotheses == eos_id).long()
    states = ends.cumsum(-1) == ends
    if lengths is not None:
        states &= torch.arange(hypotheses.shape[-1], device=hypotheses.device) < lengths[..., None]
    return states


def _new_values(hypotheses: Tensor, references: Tensor, float64: bool) -> Tensor:
    places = references.shape[-1] * (references.shape[1] if references.dim() == 3 else 1)
    dtype = torch.float64 if float64 else torch.float32
    return hypotheses.new_empty(*hypotheses.shape, 1 + places, dtype=dtype)


def _run_values(*arguments: Any) -> Tensor:
    batch = TokenBatch(*arguments[:6])
    max_order, smoothing, smooth_value, effective_order, vocabulary, special_ids, scaled, float64 = arguments[
        6:
    ]
    return run_batch(
        "suffix_values",
        "suffix_workspace",
        batch,
        _new_values(batch.hypotheses, batch.references, float64),
        max_order=max_order,
        smoothing=smoothing,
        smooth_value=smooth_value,
        effective_order=effective_order,
        vocabulary=vocabulary,
        special_ids=special_ids,
        scaled=scaled,
        float64=float64,
    )


suffix_values = register(
    "suffix_values",
    "(Tensor hypotheses, Tensor references, Tensor? hypothesis_lengths, Tensor? reference_lengths, int eos_id, "
    "int? unmatched_id, int max_order, int smoothing, float smooth_value, bool effective_order, SymInt vocabulary, "
    "int[] special_ids, bool scaled, bool float64) -> Tensor",
    kernel=_run_values,
    fake=lambda *arguments: _new_values(arguments[0], arguments[1], arguments[13]),
)

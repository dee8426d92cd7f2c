"""Edit distance of every prefix, its rewards, and the values of the best completions: an oracle without training.

The payoff is `R(y) = -d(y, y*)`, d the Levenshtein distance of token ids: the fewest tokens inserted, left out
or replaced. With the row `row[j] = d(y_<t, y*_1..j)` of a prefix, completing it by `y*_j+1 .. y*_L` ends at
distance row[j], and no completion ends below `m = min_j row[j]`. A next token w keeps m within reach where it
equals `y*_j+1` for some j with row[j] = m; after any other token m + 1 is the best. So, in the convention of
Eq. (6) and Eq. (7) (Q is the payoff still to come, ending earns 0):

    Q(y_<t, w) = row[L] - m where w continues a minimal entry, else row[L] - m - 1;   Q(y_<t, eos) = 0

Where some tokens cannot be produced (`special_ids`), `row[j]` stands for row[j] plus the number of those in
`y*_j+1 .. y*_L`, which each cost a replacement whatever is done; before such a token every token is as good.

These are OPTIMAL values, a maximum over completions. `softmax(Q / tau)` over them is the target of optimal
completion distillation (Sabour, Chan and Norouzi, ICLR 2019); at tau -> 0 it is uniform over the optimal
tokens. They are not the soft values of Eq. (7), which sum over completions: a sum of `exp(-d / tau)` over
completions, each d a minimum over j, cannot be exchanged with that minimum as a maximum can, and a sum over
the entries of the row would count a completion once for each of its alignments. The soft values need a state
for every possible row: `softbellman.oracle.EditAutomaton`.

Notation: B sources, K samples per source, N = B*K, T and L padded lengths, V vocabulary, M selected states. A
sequence is its first `length` tokens, cut before the first `eos_id`; a reference of length 0 is the empty
sequence. Time O(T L) a hypothesis and one write of each value; memory O(L) a hypothesis, for values 2 + L/32
words a state besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import DTYPE_CODES, check_dense, check_integer
from softbellman.core.operator import register
from softbellman.payoffs.batches import TokenBatch, check_batch, check_float_type, run_batch

MOST_SPECIAL_IDS = 16
_LONGEST = 2**29  # rows hold T + L in 32 bits
_LARGEST_VOCABULARY = 2**30
_DISTANCE, _REWARD = 0, 1  # EditDistanceOutput of csrc/payoffs/edit_distance.h, _REWARD + 1 in float64
_OUTPUTS = (torch.int64, torch.float32, torch.float64)
_DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}


def prefix_edit_distance(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """Levenshtein distance of every prefix of every hypothesis to its whole reference.

    Args:
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`.
        references: int64 tokens `[B, L]`, shared by the K hypotheses of a source.
        hypothesis_lengths: tokens that count, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]`, 0 for the empty sequence; None: all L.
        eos_id: the token that ends a sequence, in hypotheses and references; neither it nor what follows is
            read.

    Returns:
        Distances in tokens, int64 of the shape of `hypotheses`: entry t is that of the first t + 1 tokens, 0
        at and beyond the length.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range. Lengths outside their
            range raise for CPU tensors; for CUDA tensors, where reading them would wait for the device, they
            are clamped.

    Example:
        >>> prefix_edit_distance(torch.tensor([[5, 7, 7]]), torch.tensor([[5, 6, 7]]))
        tensor([[2, 1, 1]])
    """
    batch = _check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id)
    distances: Tensor = edit_distances(*batch[:5], _DISTANCE)
    return distances


def edit_distance_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Incremental payoffs `r_t = d(y_1..t-1, y*) - d(y_1..t, y*)`, Eq. (13): 1, 0 or -1.

    The payoff of the empty prefix is -L, so the rewards of a hypothesis add up to L minus its distance. The
    token `eos_id` gets reward 0: the payoff of a partial sequence is that of the sequence ended there,
    Eq. (4).

    Args:
        hypotheses, references and the others: as in `prefix_edit_distance`.
        dtype: of the result, float32 or float64.

    Returns:
        Rewards in tokens, of the shape of `hypotheses`; 0 at eos and beyond the length.

    Raises:
        TypeError, ValueError: as `prefix_edit_distance`.

    Example:
        >>> edit_distance_rewards(torch.tensor([[5, 7, 3, 0]]), torch.tensor([[5, 6, 7]]), eos_id=3)
        tensor([[1., 1., 0., 0.]])
    """
    batch = _check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id)
    rewards: Tensor = edit_distances(*batch[:5], _REWARD + check_float_type(dtype))
    return rewards


def optimal_completion_values(
    hypotheses: Tensor,
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`Q(y_<t, w) = max_z R(y_<t w z) - R(y_<t)` of every next token w, z over all completions.

    Entry t belongs to the state before token t of the hypothesis. Every such state is written up to the one
    in which the token `eos_id` stands; with `rows` only those named, which is all that the real positions of
    a padded batch need. Nothing here has a gradient.

    For the cross entropy of a policy under the target use
    `soft_target_cross_entropy(logits, q, tau=tau, mask=mask)`, for its limit tau -> 0 (uniform over the
    optimal tokens) the same with `softbellman.oracle.maximal_actions(q)` in place of q and any tau.

    Args:
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`. They may hold any id.
        references: int64 tokens `[B, L]`, shared by the K hypotheses of a source. Ids outside [0, V) raise on
            the CPU; on a GPU, where looking for them would wait for the device, they count as tokens that
            cannot be produced.
        vocabulary: V, from 1 to 2**30.
        eos_id: in [0, V), the action that ends a sequence; hypotheses and references are cut before it.
        hypothesis_lengths: tokens that count, eos included where it is there, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]`; None: all L.
        special_ids: up to 16 ids in [0, V) that are never produced (padding, start, unknown). Their value is
            `-inf`, but `eos_id` keeps its own where it is among them. A reference may hold them: see the head
            of this module.
        rows: int64 `[M]`, places of states in the flattened `[B, T]` or `[B, K, T]`, in any order. Places outside
            raise on the CPU and give zeros on a GPU.
        dtype: float32, float64, bfloat16 or float16; the values are integers, rounded to it.

    Returns:
        Values in tokens, `[B, T, V]` or `[B, K, T, V]`, with `rows` `[M, V]`; zeros in the states behind the end.
        The largest value of a state is `V(y_<t) = max(row[L] - m, 0)`, m as at the head of this module.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> optimal_completion_values(  # after token 1 the best is to go on with 2 and 3; 0 ends
        ...     torch.tensor([[1, 0]]), torch.tensor([[1, 2, 3]]), vocabulary=5, eos_id=0
        ... )
        tensor([[[0., 3., 2., 2., 2.],
                 [0., 1., 2., 1., 1.]]])
    """
    batch = _check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, None)
    specials = check_completion_arguments(vocabulary, eos_id, special_ids)
    if rows is not None:
        check_state_rows(rows, hypotheses)
    if dtype not in DTYPE_CODES:
        raise TypeError(f"dtype must be float32, float64, bfloat16 or float16, got {dtype}")
    values: Tensor = completion_values(*batch[:4], vocabulary, eos_id, specials, rows, DTYPE_CODES[dtype])
    return values


def _check_batch(
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None,
) -> TokenBatch:
    return check_batch(
        hypotheses,
        references,
        hypothesis_lengths,
        reference_lengths,
        eos_id,
        reference_dimensions=(2,),
        longest=_LONGEST,
    )


def check_completion_arguments(vocabulary: int, eos_id: int, special_ids: Sequence[int]) -> list[int]:
    """The special ids as a list, where these are ids of the vocabulary as the end is."""
    check_integer("vocabulary", vocabulary, 1, _LARGEST_VOCABULARY)
    check_integer("eos_id", eos_id, 0, vocabulary - 1)
    specials = list(special_ids)
    for token in specials:
        check_integer("special_ids", token, 0, vocabulary - 1, kind="hold ints")
    if len(specials) > MOST_SPECIAL_IDS:
        raise ValueError(f"special_ids must hold at most {MOST_SPECIAL_IDS} ids, got {len(specials)}")
    return specials


def check_state_rows(rows: Tensor, hypotheses: Tensor) -> None:
    """Places of states, int64 `[M]`, on the device of the hypotheses."""
    check_dense("rows", rows)
    if rows.dtype != torch.int64:
        raise TypeError(f"rows must hold int64 places of states, got {rows.dtype}")
    if rows.dim() != 1:
        raise ValueError(f"rows must have 1 dimension, got shape {tuple(rows.shape)}")
    if rows.device != hypotheses.device:
        raise ValueError(f"rows must be on the device of hypotheses, {hypotheses.device}, got {rows.device}")


def _new_distances(hypotheses: Tensor, output: int) -> Tensor:
    return hypotheses.new_empty(*hypotheses.shape, dtype=_OUTPUTS[output])


def _run_distances(*arguments: Any) -> Tensor:
    batch, output = TokenBatch(*arguments[:5]), arguments[5]
    out = _new_distances(batch.hypotheses, output)
    return run_batch("edit_distances", "edit_workspace", batch, out, output=output)


def _new_values(hypotheses: Tensor, vocabulary: int, rows: Tensor | None, dtype_code: int) -> Tensor:
    states = hypotheses.shape if rows is None else rows.shape
    return hypotheses.new_empty(*states, vocabulary, dtype=_DTYPES[dtype_code])


def _run_values(*arguments: Any) -> Tensor:
    tokens, (vocabulary, eos_id, special_ids, rows, dtype_code) = arguments[:4], arguments[4:]
    batch = TokenBatch._make((*tokens, eos_id, None))
    return run_batch(
        "completion_values",
        "completion_workspace",
        batch,
        _new_values(batch.hypotheses, vocabulary, rows, dtype_code),
        vocabulary=vocabulary,
        special_ids=special_ids,
        rows=rows,
        dtype=dtype_code,
    )


_TOKENS_SCHEMA = "Tensor hypotheses, Tensor references, Tensor? hypothesis_lengths, Tensor? reference_lengths"
edit_distances = register(
    "edit_distances",
    f"({_TOKENS_SCHEMA}, int? eos_id, int output) -> Tensor",
    kernel=_run_distances,
    fake=lambda *arguments: _new_distances(arguments[0], arguments[5]),
)
completion_values = register(
    "completion_values",
    f"({_TOKENS_SCHEMA}, SymInt vocabulary, int eos_id, int[] special_ids, Tensor? rows, int dtype_code) -> Tensor",
    kernel=_run_values,
    fake=lambda *arguments: _new_values(arguments[0], arguments[4], arguments[7], arguments[8]),
)

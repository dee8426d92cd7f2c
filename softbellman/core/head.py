"""An output layer in place of logits: operators form the logits of a chunk of rows at a time.

Notation: N rows, H hidden units, V vocabulary.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import (
    LARGEST_TEMPERATURE,
    SMALLEST_TEMPERATURE,
    check_dense,
    check_integer,
    check_number,
    check_rows,
    check_temperature,
    statistic_dtype,
)
from softbellman.core.shards import Shards, shards_of


@dataclass(frozen=True, eq=False)
class Head:
    """The logits `cap(scale * hidden @ weight.T + bias)` of an output layer, never stored for all rows at once.

    Every operator takes a head wherever it takes logits or action values `[..., V]`, and gives what it would give for
    `head.logits()`, within rounding. Under autocast a head is cast as `torch.nn.functional.linear` casts its arguments.

    Attributes:
        hidden: hidden states `[..., H]`, in any floating type.
        weight: output embeddings `[V, H]` with the dtype and device of hidden.
        bias: `[V]` like weight, or None; `-inf` forbids a token, whatever the cap.
        scale: what the matmul is multiplied by (Cohere, Granite), between 1e-30 and 1e30 in size.
        softcap: `softcap * tanh(logits / softcap)` (Gemma), between 1e-30 and 1e30; None leaves the logits as they are.
        vocabulary: how many of the V rows of weight and bias are tokens. Those behind are padding: they are not read, their
            logits are `-inf` and they get a zero gradient. None: all are tokens.
        chunk_rows: rows whose logits exist at one time, at least 1; None chooses a twentieth of the rows, at least 64; of fewer
            than 1,280 rows half of them, at most 128.
        accumulation_dtype: in which the gradient of a 16-bit weight is summed. float32 (None): by blocks of the vocabulary in
            the backward pass, rounded once. The dtype of the weight: over the chunks, in a reduced loss by the forward
            pass, which saves a matmul and rounds at every chunk.
        process_group: the processes among whom the rows of weight and bias are spread, in the order of their ranks. All
            have the same hidden states; ids and `vocabulary` are those of the whole. None: this process has all.
        shard_rows: how many rows of the weight each process of the group has; None: as many as here.
        sum_hidden_gradient: whether the backward pass adds up the processes' gradients of hidden. False leaves that to what
            made hidden, as column-parallel layers do.

    Raises:
        TypeError, ValueError: an attribute of the wrong type, shape or device.

    Example:
        >>> head = Head(torch.zeros(3, 4), torch.ones(2, 4))
        >>> head.shape
        torch.Size([3, 2])
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    _: KW_ONLY
    scale: float = 1.0
    softcap: float | None = None
    chunk_rows: int | None = None
    vocabulary: int | None = None
    accumulation_dtype: torch.dtype | None = None
    process_group: Any = None
    shard_rows: tuple[int, ...] | None = None
    sum_hidden_gradient: bool = True
    shards: Shards | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_rows("hidden", self.hidden)
        check_rows("weight", self.weight, dimensions=2)
        hidden, weight, bias = self.hidden, self.weight, self.bias
        if weight.shape[1] != hidden.shape[-1]:
            raise ValueError(
                f"weight must have shape [V, {hidden.shape[-1]}] like the last dimension of hidden, "
                f"got {tuple(weight.shape)}"
            )
        if weight.shape[0] == 0:
            raise ValueError(f"weight must have at least one row, got shape {tuple(weight.shape)}")
        if bias is not None:
            check_dense("bias", bias)
            if bias.shape != weight.shape[:1]:
                raise ValueError(f"bias must have shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
        for name, tensor in (("weight", weight), ("bias", bias)):
            if tensor is not None and tensor.device != hidden.device:
                raise ValueError(
                    f"{name} must be on the device of hidden, {hidden.device}, got {tensor.device}"
                )
        self._set_shards()
        self._check_options()

    def _set_shards(self) -> None:
        shards = None
        if self.process_group is not None:
            shards = shards_of(self.process_group, self.shard_rows, self.weight.shape[0])
        elif self.shard_rows is not None:
            raise ValueError(f"shard_rows must be None without a process_group, got {self.shard_rows}")
        if not isinstance(self.sum_hidden_gradient, bool):
            raise TypeError(
                f"sum_hidden_gradient must be a bool, got {type(self.sum_hidden_gradient).__name__}"
            )
        object.__setattr__(self, "shards", shards)

    def _check_options(self) -> None:
        check_number("scale", self.scale)
        if not SMALLEST_TEMPERATURE <= abs(self.scale) <= LARGEST_TEMPERATURE:
            raise ValueError(f"scale must have a size between 1e-30 and 1e30, got {self.scale}")
        if self.softcap is not None:
            check_temperature("softcap", self.softcap)
        if self.vocabulary is not None:
            check_integer("vocabulary", self.vocabulary, 1, self.shape[-1], kind="be an int or None")
            if self.shards is not None and self.vocabulary <= sum(self.shards.rows[:-1]):
                raise ValueError(
                    f"vocabulary must leave a token to every process, got {self.vocabulary} of {self.shards.rows} rows"
                )
        if self.chunk_rows is not None:
            if isinstance(self.chunk_rows, (bool, float, str, Tensor)):
                raise TypeError(f"chunk_rows must be an int or None, got {type(self.chunk_rows).__name__}")
            if not 1 <= self.chunk_rows < 2**63:
                raise ValueError(f"chunk_rows must be at least 1 and below 2**63, got {self.chunk_rows}")

    @property
    def shape(self) -> torch.Size:
        """The shape `[..., V]` of the logits, of all processes together."""
        if self.shards is not None:
            return torch.Size((*self.hidden.shape[:-1], self.shards.vocabulary))
        return self.hidden.shape[:-1] + self.weight.shape[:1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the logits, that of autocast where it is on."""
        return self.cast().hidden.dtype

    @property
    def device(self) -> torch.device:
        """The device of hidden states, weight and bias."""
        return self.hidden.device

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is asked of hidden states, weight or bias."""
        return any(part.requires_grad for part in (self.hidden, self.weight, self.bias) if part is not None)

    def dim(self) -> int:
        """The number of dimensions of the logits."""
        return self.hidden.dim()

    def __getitem__(self, rows: Any) -> Head:
        """The head of some rows: `hidden` indexed in its leading dimensions, never in its last."""
        return self._with(self.hidden[rows], self.weight, self.bias)

    def detach(self) -> Head:
        """The same head without a graph."""
        bias = None if self.bias is None else self.bias.detach()
        return self._with(self.hidden.detach(), self.weight.detach(), bias)

    def _with(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Head:
        """Other tensors, the same options; not `dataclasses.replace`, which torch 2.6 does not compile."""
        options: dict[str, Any] = {
            "scale": self.scale,
            "softcap": self.softcap,
            "chunk_rows": self.chunk_rows,
        }
        options |= {"vocabulary": self.vocabulary, "sum_hidden_gradient": self.sum_hidden_gradient}
        options |= {"accumulation_dtype": self.accumulation_dtype}
        options |= {"process_group": self.process_group, "shard_rows": self.shard_rows}
        return Head(hidden, weight, bias, **options)

    def _logits_of_tokens(self) -> Tensor:
        """The logits without padding."""
        weight = self.weight if self.vocabulary is None else self.weight[: self.vocabulary]
        bias = self.bias if self.bias is None or self.vocabulary is None else self.bias[: self.vocabulary]
        if self.scale == 1.0:
            product = torch.nn.functional.linear(self.hidden, weight, bias)
        else:
            product = torch.nn.functional.linear(self.hidden, weight) * self.scale
            product = product if bias is None else product + bias
        if self.softcap is None:
            return product
        capped = self.softcap * (product / self.softcap).tanh()
        return capped if bias is None else capped.masked_fill(bias == -torch.inf, -torch.inf)

    def logits(self) -> Tensor:
        """All logits `[..., V]`, in plain PyTorch: what a head stands for.

        Raises:
            ValueError: the vocabulary is spread over processes.
        """
        if self.shards is not None:
            raise ValueError(
                "logits() needs all rows of the weight, got a head in shards; gather its weight first"
            )
        logits = self.cast()._logits_of_tokens()
        padding = self.weight.shape[0] - logits.shape[-1]
        return torch.nn.functional.pad(logits, (0, padding), value=-torch.inf) if padding else logits

    def cast(self) -> Head:
        """The head as autocast has it; TypeError where its three tensors then differ in dtype, or its sums have another."""
        head = self
        kind = self.hidden.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            bias = None if self.bias is None else _cast(self.bias, dtype)
            hidden, weight = _cast(self.hidden, dtype), _cast(self.weight, dtype)
            head = self._with(hidden, weight, bias)
        for name, tensor in (("weight", head.weight), ("bias", head.bias)):
            if tensor is not None and tensor.dtype != head.hidden.dtype:
                raise TypeError(
                    f"{name} must have the dtype of hidden, {head.hidden.dtype}, got {tensor.dtype}"
                )
        allowed = (None, head.weight.dtype, statistic_dtype(head.weight.dtype))
        if head.accumulation_dtype not in allowed:
            raise TypeError(
                f"accumulation_dtype must be None, {allowed[1]} or {allowed[2]} for a weight in {allowed[1]}, "
                f"got {head.accumulation_dtype}"
            )
        return head


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What autocast does to an argument: float64 stays."""
    return tensor if tensor.dtype in (dtype, torch.float64) else tensor.to(dtype)


Rows = Tensor | Head
"""Rows over the vocabulary `[..., V]`: logits or action values, stored or made by an output layer."""


def scaled(rows: Rows, factor: float) -> Rows:
    """Logits times a positive factor, such as 1 / tau; a head stays one.

    Raises:
        ValueError: a head with a softcap, whose capped logits are no logits of another head.
    """
    if not isinstance(rows, Head):
        return factor * rows
    if rows.softcap is not None:
        raise ValueError("a head with a softcap cannot be scaled; give its logits()")
    bias = None if rows.bias is None else factor * rows.bias  # a head's scale is that of its matmul alone
    return replace(rows, scale=factor * rows.scale, bias=bias)


def check_row_argument(name: str, rows: Rows, *, dimensions: int | None = None) -> None:
    """Rows `[..., V]` over a vocabulary: a floating tensor, or a head in one dtype."""
    if not isinstance(rows, Head):
        check_rows(name, rows, dimensions=dimensions)
        return
    rows.cast()
    if dimensions is not None and rows.dim() != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, got shape {tuple(rows.shape)}")


def check_rows_beside(name: str, rows: Rows, like_name: str, like: Rows) -> None:
    """Rows read beside others: one shape, one device, and one dtype where both are tensors."""
    check_row_argument(name, rows)
    ours, theirs = shards_of_rows(rows), shards_of_rows(like)
    if ours != theirs:
        raise ValueError(
            f"{name} must be a Head in the shards of {like_name}, {_described(theirs)}, got {_described(ours)}"
        )
    if rows.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}, {tuple(like.shape)}, got {tuple(rows.shape)}"
        )
    if isinstance(rows, Tensor) and isinstance(like, Tensor) and rows.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name}, {like.dtype}, got {rows.dtype}")
    if rows.device != like.device:
        raise ValueError(f"{name} must be on the device of {like_name}, {like.device}, got {rows.device}")


def shards_of_rows(rows: Rows) -> Shards | None:
    """The processes over which the vocabulary of a head is spread."""
    return rows.shards if isinstance(rows, Head) else None


def _described(shards: Shards | None) -> str:
    return "all rows in one process" if shards is None else f"{list(shards.rows)} rows in a process group"

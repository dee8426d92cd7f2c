"""A loss inside the forward pass that DDP, FSDP or `torch.compile` wrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from softbellman.hf.heads import head_of
from softbellman.hf.hidden import hidden_of


class WithLoss(nn.Module):
    """A model of transformers whose forward pass returns a loss of its head.

    Wrap this module, not the model: `DistributedDataParallel(WithLoss(model, loss))`, `fully_shard(WithLoss(model, loss))`,
    `torch.compile(WithLoss(model, loss))`. Then gradients are reduced and sharded weights are there when the loss reads them.

    Args:
        model: as of `head_of`.
        loss: called with the `Head` of all positions and what `forward` got beside the inputs. A module is trained along.
        vocabulary, chunk_rows: as of `head_of`.

    Example:
        >>> def loss(head, labels):
        ...     return token_cross_entropy(head[:, :-1], labels[:, 1:], ignore_index=-100, reduction="mean")
        >>> trained = DistributedDataParallel(WithLoss(model, loss))  # doctest: +SKIP
        >>> trained({"input_ids": ids, "attention_mask": mask}, labels).backward()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        loss: Callable[..., Any],
        *,
        vocabulary: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.vocabulary, self.chunk_rows = vocabulary, chunk_rows

    def forward(self, inputs: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """The loss of a batch.

        Args:
            inputs: what `hidden_of` takes, by name.
            *arguments, **options: what the loss takes beside the head.
        """
        hidden = hidden_of(self.model, **inputs)
        head = head_of(self.model, hidden, vocabulary=self.vocabulary, chunk_rows=self.chunk_rows)
        return self.loss(head, *arguments, **options)

"""Maximum likelihood of a batch's references under a network: what several stages descend, and the validation of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softbellman.core.head import scaled
from softbellman.data import Batch
from softbellman.objectives import Objective, maximum_likelihood
from softbellman.training.rollout import Encoded, vocabulary_rows
from softbellman.training.settings import LogitsForm


def reference_likelihood(
    model: nn.Module,
    batch: Batch,
    *,
    source: Tensor,
    memory: Encoded | None = None,
    logits: LogitsForm = "whole",
    smoothing: float = 0.0,
    scale: float = 1.0,
) -> Objective:
    """The maximum-likelihood objective on the batch's references, given `source` (the actor's own, or the reference).

    `memory` is `source` as the model has encoded it already, if it has; `logits` the form they are held in;
    `smoothing` that of the labels, `scale` what the logits are multiplied by.
    """
    rows = batch.rows
    said = vocabulary_rows(model, source, batch.prefix, rows, logits=logits, memory=memory)
    if scale != 1.0:
        said = scaled(said, scale)
    labels = batch.labels.flatten()[rows]
    objective = maximum_likelihood(
        said, labels, sequences=len(batch.source), smoothing=smoothing, inplace_backward=True
    )
    objective.diagnostics["reference_tokens"] = torch.as_tensor(len(rows))
    return objective

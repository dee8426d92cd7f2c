"""Which term of its loss moves an actor that learns beside the likelihood of the references.

A stage whose loss is the sum of what the payoff teaches and of `mle_weight` times the negative log-likelihood becomes maximum
likelihood, unseen, where the first is small. So a validation says how large the gradient of each is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.training.rollout import mode
from softbellman.training.stages.base import Judge
from softbellman.training.vitals import SENTENCES

Terms = Mapping[str, Callable[[Batch, int], Tensor]]
"""The terms of a loss by name: of a batch and the number of its draws, the mean over the batch's sources."""

Sentences = Callable[[], Sequence[Batch]]
"""The validation sentences that gradients are measured on."""


def with_gradients(judge: Judge, actor: nn.Module, terms: Terms, sentences: Sentences) -> Judge:
    """A validation that also gives `gradient_<term>`, the norm of each term's gradient with respect to the actor's weights."""
    return lambda: {**judge(), **gradient_norms(actor, terms, sentences())}


def gradient_norms(actor: nn.Module, terms: Terms, batches: Sequence[Batch]) -> dict[str, float]:
    """Norm of the gradient of each term with respect to all weights of the actor, as an update before clipping has it.

    Dropout is on, as in an update. Its draws are the same at every call, and no draw of the run changes.

    Args:
        actor: its weights stay as they are, and so do their gradients.
        terms: by name; each is called for one batch after the other.
        batches: validation sentences with their references.

    Returns:
        `gradient_<term>` by name, in the unit of the loss.
    """
    weights = [weight for weight in actor.parameters() if weight.requires_grad]
    devices = [batch.source.device for batch in batches[:1] if batch.source.is_cuda]
    sources = sum(len(batch) for batch in batches)
    found = {}
    for name, term in terms.items():
        with torch.random.fork_rng(devices), torch.enable_grad(), mode(actor, training=True):
            torch.manual_seed(0)
            total = [torch.zeros_like(weight) for weight in weights]
            for step, batch in enumerate(batches):
                loss = term(batch, step) * (len(batch) / sources)
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                for whole, part in zip(total, gradients, strict=True):
                    if part is not None:
                        whole += part
        norms = torch.stack([gradient.double().norm() for gradient in total])
        found[f"gradient_{name}"] = float(norms.norm())
    return found


def of_validation(first_of_dev: Callable[[int, int], list[Batch]]) -> Sentences:
    """The first `SENTENCES` sentences of the validation set, in two batches."""
    return partial(first_of_dev, SENTENCES, SENTENCES // 2)

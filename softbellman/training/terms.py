"""Which term of its loss moves an actor that learns beside the likelihood of the references.

A stage whose loss is the sum of what the payoff teaches and of `mle_weight` times the negative log-likelihood becomes maximum
likelihood, unseen, where the first is small. So a validation says how large the gradient of each is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.training.precision import as_recorded
from softbellman.training.processes import apart
from softbellman.training.rollout import mode
from softbellman.training.settings import ScheduleSettings
from softbellman.training.stages.base import Judge
from softbellman.training.vitals import SENTENCES

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly

Terms = Mapping[str, Callable[[Batch, int], Tensor]]
"""The terms of a loss by name: of a batch and the number of its draws, the mean over the batch's sources."""

Sentences = Callable[[], Sequence[Batch]]
"""The validation sentences that gradients are measured on."""

_MOST = 50  # sentences of a batch


def with_gradients(
    judge: Judge,
    actor: nn.Module,
    *,
    payoff: Callable[[Batch, int], Tensor],
    likelihood: Callable[[Batch], Tensor],
    mle_weight: float,
    sentences: Sentences | None,
    beside: Sequence[nn.Module] = (),
) -> Judge:
    """A validation that also gives `gradient_payoff` and `gradient_likelihood`, see `gradient_norms`.

    Args:
        judge: the validation.
        actor: see `gradient_norms`, as `beside`.
        payoff: all of the loss but the likelihood, as one of `Terms`.
        likelihood: negative log-likelihood of the references of a batch, mean over its sources.
        mle_weight: of the likelihood; 0: there is nothing to compare, and the validation stays as it is.
        sentences: on which it is measured; None: not at all.
    """
    if sentences is None or not mle_weight:
        return judge
    terms: Terms = {"payoff": payoff, "likelihood": lambda batch, step: mle_weight * likelihood(batch)}
    return lambda: {**judge(), **gradient_norms(actor, terms, sentences(), beside=beside)}


def gradient_norms(
    actor: nn.Module, terms: Terms, batches: Sequence[Batch], *, beside: Sequence[nn.Module] = ()
) -> dict[str, float]:
    """Norm of the gradient of each term with respect to all weights of the actor, as an update before clipping has it.

    Dropout is on, as in an update. Its draws are the same at every call, and no draw of the run changes. Of several processes
    each computes it for itself, on the same sentences.

    Args:
        actor: its weights and buffers stay as they are, and so do their gradients.
        terms: by name; each is called for one batch after the other.
        batches: validation sentences with their references.
        beside: other networks that the terms run; they stay as they are, too.

    Returns:
        `gradient_<term>` by name, in the unit of the loss.
    """
    devices = [batch.source.device for batch in batches[:1] if batch.source.is_cuda]
    sources = sum(len(batch) for batch in batches)
    found = {}
    for name, term in terms.items():
        with (
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            mode(actor, training=True),
            apart(),
            _kept([actor, *beside]),
        ):
            torch.manual_seed(0)
            for step, batch in enumerate(batches):
                loss = term(batch, step) * (len(batch) / sources)
                with as_recorded(loss.device):
                    loss.backward()  # type: ignore[no-untyped-call]
            norms = [weight.grad.double().norm() for weight in actor.parameters() if weight.grad is not None]
            found[f"gradient_{name}"] = float(torch.stack(norms).norm()) if norms else 0.0
    return found


@contextmanager
def _kept(networks: Sequence[nn.Module]) -> Iterator[None]:
    """A block that begins without gradients; behind it gradients and buffers, such as running means, are as before."""
    gradients = [(weight, weight.grad) for network in networks for weight in network.parameters()]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    for weight, _ in gradients:
        weight.grad = None
    try:
        yield
    finally:
        for weight, gradient in gradients:
            weight.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def of_validation(parts: Assembly, schedule: ScheduleSettings) -> Sentences:
    """The first `SENTENCES` sentences of the validation set, in batches no larger than what an update computes at one time."""
    rows = schedule.batch_size // schedule.accumulate
    if schedule.batch_unit == "tokens":
        rows //= parts.settings.data.max_length
    return lambda: parts.first_of_dev(SENTENCES, min(max(rows, 1), _MOST))

"""A network of the user's own, asked once before training: what the trainer believes of it later is compared here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.parameter import is_lazy

from softbellman.config import ConfigError
from softbellman.core.objects import UserCodeError
from softbellman.data import Batch, collate
from softbellman.data.batching import Examples
from softbellman.decoding.stepwise import as_stepwise
from softbellman.training.rollout import Factored, LinearHead

_STEPS = 3


@dataclass(frozen=True)
class Trial:
    """Two sources with a prefix each.

    Attributes:
        batch: the sources, as data have them; what a critic reads is in it.
        prefix: BOS and tokens of the references, without padding, `[2, 3]`.
    """

    batch: Batch
    prefix: Tensor

    @classmethod
    def of(cls, corpus: Examples, device: torch.device, **options: Any) -> Trial:
        """The first source of a corpus and one of another length, where there is one.

        Args:
            options: of `collate`.
        """
        sizes = ((corpus.source_length(n), len(corpus.references[n][0])) for n in range(len(corpus)))
        first = next(sizes)
        others = (n for n, size in enumerate(sizes, 1) if size[0] != first[0] and size[1] != first[1])
        batch = collate(corpus, [(0, 0), (next(others, len(corpus) - 1), 0)], **options)
        read = [cycle(row[row != batch.special.pad].tolist()) for row in batch.labels]
        prefix = torch.tensor([[batch.special.bos, *islice(tokens, _STEPS - 1)] for tokens in read])
        return cls(batch.to(device), prefix.to(device))


def try_model(model: nn.Module, source: Tensor, prefix: Tensor, *, name: str, vocabulary: int) -> None:
    """Compare the shape of a model's logits with the data, and its other methods with its logits.

    Modes and buffers of the model, and the random state, are then as before. A model that answers otherwise each time is
    asked for shapes alone.

    Args:
        source: sources, `[N, ...]`.
        prefix: of each one prefix, `[N, T]`.
        name: of the model in error sentences.
        vocabulary: V.

    Raises:
        ConfigError: logits of another shape than `[N, T, V]`, or methods that contradict each other.
        UserCodeError: the model raised.
    """
    with _untouched(model, prefix.device):
        try:
            _try(model, source, prefix, name, (*prefix.shape, vocabulary))
        except ConfigError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            raise UserCodeError(
                f"{name} failed on {len(source)} sources with prefixes of {prefix.shape[1]} tokens: "
                f"{type(error).__name__}: {text}"
            ) from error


def _try(model: nn.Module, source: Tensor, prefix: Tensor, name: str, shape: tuple[int, ...]) -> None:
    logits, again = model(source, prefix), model(source, prefix)
    what = f"{name} must map sources and prefixes to logits [N, T, V], V the target vocabulary"
    _check_shape(logits, shape, what)
    same = _difference(again, logits, rounding=1e-5) is None
    if isinstance(model, Factored):
        features = model.features(source, prefix)
        found = model.project(features)
        what = f"project(features(source, prefix)) of {name} must be its logits"
        _check_shape(found, shape, what)
        _check_numbers(found, logits, what, asked=same)
        if isinstance(model, LinearHead):
            _try_projection(model, features, found, name, asked=same)
    if hasattr(model, "begin") and hasattr(model, "step"):
        stepwise = as_stepwise(model)
        state: Any = stepwise.begin(source)
        for step, tokens in enumerate(prefix.unbind(1)):
            found, state = stepwise.step(tokens, state)
            what = f"step() of {name} must return the logits of forward(source, prefix) at position {step}"
            _check_shape(found, (len(prefix), shape[2]), what)
            _check_numbers(found, logits[:, step], what, asked=same)


def _try_projection(model: LinearHead, features: Tensor, logits: Tensor, name: str, *, asked: bool) -> None:
    weight, bias = model.projection()
    what = f"projection() of {name} must return weight [V, H] and bias [V]"
    _check_shape(weight, (logits.shape[2], features.shape[2]), what)
    if bias is not None:
        _check_shape(bias, logits.shape[2:], what)
    what = f"project(features) of {name} must be features @ weight.T + bias of projection(), if it has that"
    _check_numbers(logits, linear(features, weight, bias), what, asked=asked)


def _check_shape(found: Any, shape: tuple[int, ...], what: str) -> None:
    given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if given != list(shape):
        raise ConfigError(f"{what}, here {list(shape)}, got {given}")


def _check_numbers(found: Tensor, wanted: Tensor, what: str, *, asked: bool) -> None:
    difference = _difference(found, wanted) if asked else None
    if difference is not None:
        raise ConfigError(f"{what}, got numbers that differ by up to {difference:.2g}")


def _difference(found: Tensor, wanted: Tensor, *, rounding: float = 1e-3) -> float | None:
    """The largest difference where it is more than rounding, which is a share of the largest number; else None."""
    finite = wanted[wanted.isfinite()].abs()
    most = max(rounding, 8 * torch.finfo(wanted.dtype).eps) * (float(finite.max()) if len(finite) else 0.0)
    found = found.to(wanted.dtype)
    other = ~found.isclose(wanted, rtol=0, atol=most, equal_nan=True)
    return float((found - wanted)[other].abs().max()) if other.any() else None


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation without a graph; modes, buffers and random state are then as before."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            for buffer, before in buffers:
                buffer.copy_(before)

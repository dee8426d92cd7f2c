"""Forward, backward and both of an operator as calls to time, and the check of what a contender computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import Inputs, Operator
from softbellman import reference

Function = Callable[[Inputs], tuple[Tensor, ...]]

# Largest error against float64 as a share of the largest exact entry: what tells a wrong result from a
# rounded one. 16-bit rows: ours round the gradient alone, a plain expression every step of the way.
OUR_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
PEER_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}
CHECKED_SEQUENCES = 4
SAMPLING_DEVIATIONS = 6  # of the mean log-probability of the drawn tokens from its expectation


def require_gradients(inputs: Sequence[Inputs], operator: Operator, which: str) -> None:
    for data in inputs:
        for name in ("logits", "q"):
            getattr(data, name).requires_grad_(which != "forward" and name in operator.gradients)


def gradients(outputs: tuple[Tensor, ...], data: Inputs, operator: Operator) -> tuple[Tensor, ...]:
    upstream = [data.upstream.view(output.shape).to(output.dtype) for output in outputs]
    return torch.autograd.grad(outputs, [getattr(data, name) for name in operator.gradients], upstream)


def make_call(
    operator: Operator, which: str, function: Function
) -> tuple[Callable[[Inputs], Any], Callable[[Any], object]]:
    """What prepares the argument, untimed, and the call to time."""

    def forward(data: Inputs) -> object:
        with torch.no_grad():
            return function(data)

    def both(data: Inputs) -> object:
        return gradients(function(data), data, operator)

    def backward(graph: tuple[tuple[Tensor, ...], Inputs]) -> object:
        return gradients(*graph, operator)

    if which == "backward":
        return lambda data: (function(data), data), backward
    return lambda data: data, forward if which == "forward" else both


def check_contender(operator: Operator, which: str, function: Function, data: Inputs, ours: bool) -> float:
    """The largest error of outputs or gradients relative to the largest exact entry; raises above the
    tolerance.

    The truth is the plain expression in float64 on whole sequences spread over the batch.
    """
    if not operator.exact:
        _check_draws(function, data)
        return 0.0
    rows = checked_rows(data)
    actual = _results(operator, which, function, data, rows)
    exact_data = Inputs(
        data.logits.detach()[rows].double().requires_grad_(data.logits.requires_grad),
        data.q.detach()[rows].double().requires_grad_(data.q.requires_grad),
        data.target_q[rows].double(),
        data.actions[rows],
        data.numbers[rows].double(),
        data.upstream[rows].double(),
        data.steps,
    )
    exact = _results(operator, which, operator.plain, exact_data, torch.arange(len(rows), device=rows.device))
    if len(actual) != len(exact):
        raise RuntimeError(f"{operator.name} {which}: {len(actual)} results where {len(exact)} are expected")
    error = max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(actual, exact, strict=True)
    )
    tolerance = (OUR_TOLERANCE if ours else PEER_TOLERANCE)[data.q.dtype]
    if not error <= tolerance:  # also NaN
        raise RuntimeError(
            f"{operator.name} {which} {data.q.dtype}: error {error:.3g} above {tolerance:.3g}"
            f" ({'ours' if ours else 'peer'})"
        )
    return error


def checked_rows(data: Inputs) -> Tensor:
    """Row numbers of a few whole sequences, the first and the last among them."""
    sequences = data.actions.numel() // data.steps
    device = data.actions.device
    picked = torch.linspace(0, sequences - 1, min(sequences, CHECKED_SEQUENCES), device=device).long()
    return (picked.unsqueeze(1) * data.steps + torch.arange(data.steps, device=device)).flatten()


def _results(operator: Operator, which: str, function: Function, data: Inputs, rows: Tensor) -> list[Tensor]:
    """What the pass computes at these rows, in float64: values of a forward pass, else gradients."""
    prepare, call = make_call(operator, which, function)
    results: Any = call(prepare(data))
    vocabulary = data.q.shape[-1]
    shape = (-1,) if which == "forward" else (-1, vocabulary)
    return [result.detach().reshape(shape)[rows].double() for result in results]


def _check_draws(function: Function, data: Inputs) -> None:
    """Draws of ours must be the reference's, and anyone's as probable as draws of this distribution are."""
    results = function(data)
    tokens = results[0]
    if len(results) == 3:  # ours, on the leading rows: a row's number enters its noise
        leading = slice(0, min(4, tokens.numel()))
        expected = reference.sample_tokens(data.logits[leading].detach().cpu(), seed=1)
        if not torch.equal(tokens[leading].cpu(), expected.tokens):
            raise RuntimeError("sample_tokens: other tokens than the reference's")
        for actual, wanted in zip(results[1:], expected[1:], strict=True):
            torch.testing.assert_close(actual[leading].cpu(), wanted, rtol=1e-3, atol=1e-4)
    rows = checked_rows(data)
    log_policy = torch.log_softmax(data.logits.detach()[rows].double(), -1)
    policy = log_policy.exp()
    drawn = log_policy.gather(-1, tokens[rows].unsqueeze(-1)).squeeze(-1)
    expected_mean = (policy * log_policy).sum(-1)
    variance = (policy * log_policy.square()).sum(-1) - expected_mean.square()
    deviations = float((drawn - expected_mean).sum().abs() / variance.sum().sqrt())
    if not deviations <= SAMPLING_DEVIATIONS:
        raise RuntimeError(f"sample_tokens: log-probabilities {deviations:.1f} deviations from their mean")

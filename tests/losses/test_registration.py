"""What the operators promise to PyTorch: schemas, fake kernels, gradients, compilation, no hidden state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman as ops
from losses.families import ERAC, FAMILIES, POLICY_VALUE, SOFT_BELLMAN
from losses.harness import (
    Family,
    cast,
    distinct,
    random_upstream,
    recorded_calls,
    registered_operators,
    run,
    tensors,
)
from softbellman import (
    actor_loss,
    critic_loss,
    erac_critic_loss,
    policy_value,
    sample_tokens,
    soft_bellman_residual,
    soft_target_cross_entropy,
    soft_value,
    token_cross_entropy,
)

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def rows(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = True, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)


def raw_calls() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every registered operator with arguments for `torch.library.opcheck`; gradients are given no graph."""
    for dtype in (torch.float32, torch.bfloat16):
        q, logits = rows(2, 3, 5, dtype=dtype), rows(2, 3, 5, dtype=dtype, seed=1)
        ids, mask = torch.randint(0, 5, (2, 3)), torch.tensor([[True, True, False], [True, True, True]])
        numbers = torch.rand(2, 3)
        prior = torch.randn(2, 3, 5).to(dtype)
        yield "soft_value", (q, None, 0.5, None)
        yield "soft_value", (q, prior, 0.5, mask)
        yield "action_soft_value", (q, 0.5, ids, mask)
        yield "soft_bellman_residual", (q, ids, numbers, None, 0.5, mask)
        yield "soft_bellman_residual", (q, ids, numbers, ~mask, 0.5, None)
        yield "critic_loss", (q, ids, numbers, 0.1, mask)
        for ends, real in ((None, mask), (~mask, None)):
            constants = logits.detach(), q.detach()
            yield "erac_critic_loss", (q, *constants, ids, numbers, ends, 0.5, 0.1, real)
        yield "policy", (logits, q, None, 0.5, 1, mask)
        yield "policy", (logits, q, prior, 0.5, 0, mask)
        yield "divergence", (logits, q, 2, 0.3, 0.5, 2.0, mask)
        yield "cross_entropy", (logits, q.detach(), 0.5, ids, numbers, mask)
        yield "cross_entropy", (logits, None, 1.0, ids, None, None)
        yield "token_statistics", (logits, None, mask)
        yield "mask_of_integers", (mask.int(), "mask")
        known, log_probs = torch.tensor([0, 3]).expand(2, 3, 2), -2 - torch.rand(2, 3, 2)
        yield "known_ids", (known, log_probs > -2.5, 5)
        yield "sparse_divergence", (logits, known, log_probs, 1, 0, mask)
        teachers = (q.detach(), prior, None, None)
        yield "several_divergences", (logits, *teachers, 0, 0.5, 1.0, [1.0, 2.0], [0.5, 0.25], mask)
        yield (
            "sample_tokens",
            (logits.detach(), 1, 2, 0.5, torch.tensor([True, False, False, False, False]), mask),
        )
        counters = torch.tensor(3), torch.tensor([4])
        yield "sample_tokens", (logits.detach(), 0, 0, 1.0, None, mask, *counters, ids)
        q, logits = q.detach(), logits.detach()
        values = torch.ops.softbellman.soft_value(q, prior, 0.5, mask)
        yield "soft_value_backward", (numbers, q, prior, 0.5, mask, *values[1:], True)
        value, _, correction = torch.ops.softbellman.action_soft_value(q, 0.5, ids, mask)
        yield "action_soft_value_backward", (numbers, None, q, 0.5, ids, mask, value, correction, True)
        yield (
            "soft_bellman_residual_backward",
            (numbers, q, ids, numbers, ~mask, 0.5, mask, value, correction, True),
        )
        regression = (ids, numbers, 0.1, mask, numbers, numbers, numbers, True)
        yield "critic_loss_backward", (numbers, q, *regression)
        errors = (ids, numbers, None, 0.5, 0.1, mask, numbers, numbers, numbers, True)
        yield "erac_critic_loss_backward", (numbers, q, logits, q, *errors)
        saved = torch.ops.softbellman.policy(logits, q, None, 0.5, 0, mask)
        for wanted in ((True, True), (True, False), (False, True)):
            yield "policy_backward", (numbers, None, logits, q, None, 0.5, 0, mask, *saved, *wanted)
            options = (0, 0.5, 1.0, 1.0, mask)
            kept = torch.ops.softbellman.divergence(logits, q, *options)
            yield "divergence_backward", (numbers, logits, q, *options, *kept, *wanted)
        options = (0, 0.5, 1.0, [1.0, 2.0], [0.5, 0.25], mask)
        kept = torch.ops.softbellman.several_divergences(logits, q, prior, None, None, *options)
        yield (
            "several_divergences_backward",
            (numbers, logits, q, prior, None, None, *options, *kept[1:], True),
        )
        options = (known, log_probs, 0, 0, mask)
        kept = torch.ops.softbellman.sparse_divergence(logits, *options)
        yield "sparse_divergence_backward", (numbers, logits, *options, *kept[1:], True)
        _, *normalizers = torch.ops.softbellman.cross_entropy(logits, q, 0.5, ids, numbers, mask)
        yield "cross_entropy_backward", (numbers, logits, q, 0.5, ids, numbers, mask, *normalizers, True)
    for family in FAMILIES:
        arguments = family.make((2, 3, 5), torch.Generator().manual_seed(0))
        arguments = cast(family, {**arguments, "mask": mask}, torch.float32)
        upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
        yield from recorded_calls(partial(run, family, ops, arguments, upstream))
    tokens, lengths, states = (
        torch.tensor([[[4, 1, 2], [2, 2, 0]]]),
        torch.tensor([[3, 2]]),
        torch.tensor([4, 1]),
    )
    for output in range(3):
        yield "edit_distances", (tokens, tokens[0, :1], lengths, None, 0, output)
    for selected in (None, states):
        yield "completion_values", (tokens, tokens[0, :1], None, lengths[0, :1], 5, 0, [3, 4], selected, 2)
    weight, possible = torch.randn(5, 3), torch.ones(5)
    yield "centred", (weight, weight.mean(0), possible)
    yield "centred_backward", (weight, weight, possible)
    for unmatched, float64 in ((None, False), (2, True)):
        scoring = (unmatched, 3, 2, 1.0, False)
        yield "suffix_values", (tokens, tokens, lengths, lengths, 0, *scoring, 5, [3, 4], True, float64)


CALLS = distinct(raw_calls())


@pytest.mark.parametrize("call", CALLS, ids=[name for name, _ in CALLS])
def test_opcheck(call: tuple[str, tuple[Any, ...]]) -> None:
    name, arguments = call
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_opcheck_covers_every_operator() -> None:
    registered = registered_operators()
    elsewhere = {"bleu_scores", "bleu_counts", "edit_samples", "edit_density"}  # beside their own tests
    elsewhere |= {"cider_scores", "rouge_scores"}
    elsewhere |= {name for name in registered if "chunked" in name or name == "scaled_gradient"}
    elsewhere |= {name for name in registered if "shard" in name}
    assert elsewhere <= registered
    assert registered - elsewhere == {name for name, _ in CALLS}


@every_family
def test_gradcheck(family: Family) -> None:
    arguments = family.make((2, 3, 5), torch.Generator().manual_seed(0))
    arguments["mask"] = torch.tensor([[True, True, False], [True, True, True]])
    if family.name == "actor_loss normalized":
        pytest.skip("its effective temperature is held constant, which finite differences do not do")
    leaves = {name: tensors(arguments)[name].requires_grad_() for name in family.gradients}

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        results = family.call(ops, {**arguments, **dict(zip(leaves, values, strict=True))})
        return tuple(results[name] for name in family.outputs)

    assert torch.autograd.gradcheck(call, tuple(leaves.values()))


def everything(logits: Tensor, q: Tensor, ids: Tensor, numbers: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """One call of each operator."""
    value, entropy = policy_value(logits, q, tau=0.3, mask=mask)
    actor = actor_loss(logits, q, tau=0.3, mask=mask, entropy="normalized")
    critic = critic_loss(q, ids, numbers, mask, smoothness=0.1)
    sample = sample_tokens(logits, seed=5, offset=1, mask=mask)
    mixed = soft_target_cross_entropy(logits, q, tau=0.4, mask=mask, targets=ids, oracle_weight=0.2)
    likelihood = token_cross_entropy(logits, ids, mask)
    residual = soft_bellman_residual(q, ids, numbers, mask, tau=0.4)
    erac = erac_critic_loss(logits, 2 * q, q, ids, numbers, mask, tau=0.3, smoothness=0.1)
    return (
        soft_value(q, tau=0.5, mask=mask),
        *(value, entropy, *actor, *critic, *sample, mixed, likelihood, residual, *erac),
    )


def outputs_and_gradients(function: Any, *shape: int) -> list[Tensor]:
    logits, q = rows(*shape), rows(*shape, seed=1)
    ids, numbers = (
        torch.arange(shape[0] * shape[1]).view(shape[:2]) % shape[2],
        rows(*shape[:2], grad=False, seed=2),
    )
    mask = numbers > -1.0
    results = function(logits, q, ids, numbers, mask)
    graded = [result for result in results if result.requires_grad]
    assert len(graded) == 10
    upstream = [rows(*result.shape, grad=False, seed=3 + number) for number, result in enumerate(graded)]
    return [*results, *torch.autograd.grad(graded, (logits, q), upstream)]


def test_compiled_without_a_graph_break_equals_eager() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((2, 3, 7), (4, 5, 33)):
        eager = outputs_and_gradients(everything, *shape)
        for one, other in zip(outputs_and_gradients(compiled, *shape), eager, strict=True):
            assert torch.equal(one, other)


def test_compiled_by_inductor_equals_eager() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True)
    eager = outputs_and_gradients(everything, 2, 3, 7)
    for one, other in zip(outputs_and_gradients(compiled, 2, 3, 7), eager, strict=True):
        torch.testing.assert_close(one, other)


def test_a_changing_offset_does_not_recompile_without_end() -> None:
    torch._dynamo.reset()
    compiles = 0

    def counting(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        nonlocal compiles
        compiles += 1
        return graph.forward

    compiled = torch.compile(
        lambda q, offset: sample_tokens(q, seed=1, offset=offset).tokens, backend=counting
    )
    logits = torch.zeros(4, 9)
    for offset in range(8):
        assert torch.equal(compiled(logits, offset), sample_tokens(logits, seed=1, offset=offset).tokens)
    assert compiles <= 3


@every_family
def test_one_and_two_threads_give_the_same_bits(family: Family) -> None:
    arguments = cast(family, family.make((16, 8, 1031), torch.Generator().manual_seed(0)), torch.float32)
    upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        answers = []
        for count in (1, 2):
            torch.set_num_threads(count)
            answers.append(run(family, ops, arguments, upstream))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*answers, strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


def test_sampling_gives_the_same_bits_for_any_thread_count() -> None:
    threads, logits = torch.get_num_threads(), rows(128, 1031)
    try:
        answers = []
        for count in (1, 2):
            torch.set_num_threads(count)
            answers.append(sample_tokens(logits, seed=1))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


def test_a_row_is_the_same_bits_alone_and_in_a_batch() -> None:
    for family in FAMILIES:
        if family in (SOFT_BELLMAN, ERAC):  # a row of theirs depends on the next one
            continue
        arguments = cast(family, family.make((9, 1031), torch.Generator().manual_seed(0)), torch.float32)
        upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
        shape = (9,)
        alone = {n: t[4:5] if t.shape[:1] == shape else t for n, t in tensors(arguments).items()}
        batch = run(family, ops, arguments, upstream)
        single = run(family, ops, {**arguments, **alone}, {n: g[4:5] for n, g in upstream.items()})
        for one, other in zip(batch, single, strict=True):
            for name, value in one.items():
                assert torch.equal(value[4:5], other[name]), (family.name, name)


@every_family
def test_inputs_are_never_written(family: Family) -> None:
    arguments = cast(family, family.make((3, 4, 33), torch.Generator().manual_seed(0)), torch.float32)
    before = {name: value.clone() for name, value in tensors(arguments).items()}
    upstream = random_upstream(family, arguments, torch.Generator().manual_seed(1))
    sent = {name: gradient.clone() for name, gradient in upstream.items()}
    run(family, ops, arguments, upstream)
    for name, value in tensors(arguments).items():
        assert torch.equal(value, before[name]), name
    for name, gradient in upstream.items():
        assert torch.equal(gradient, sent[name]), name


def test_two_losses_on_one_tensor_and_a_softmax_upstream() -> None:
    """Gradients add up in the tensor they share, and reach what was computed before it."""
    weights, q = rows(4, 6), rows(5, 6, grad=False, seed=1)
    features = rows(5, 4, grad=False, seed=2)
    ids = torch.arange(5)

    def losses(logits: Tensor) -> tuple[Tensor, Tensor]:
        return actor_loss(logits, q, tau=0.3).loss.sum(), token_cross_entropy(logits, ids).sum()

    (together,) = torch.autograd.grad(sum(losses(torch.log_softmax(features @ weights, -1))), weights)
    apart = [
        torch.autograd.grad(losses(torch.log_softmax(features @ weights, -1))[number], weights)[0]
        for number in (0, 1)
    ]
    torch.testing.assert_close(together, apart[0] + apart[1])
    logits = torch.log_softmax(features @ weights, -1)
    first, second = losses(logits)
    (once,) = torch.autograd.grad(first, weights, retain_graph=True)
    (again,) = torch.autograd.grad(first, weights, retain_graph=True)
    torch.autograd.grad(second, weights)
    assert torch.equal(once, again) and torch.equal(once, apart[0])


@every_family
def test_a_second_derivative_is_refused(family: Family) -> None:
    arguments = family.make((2, 3, 5), torch.Generator().manual_seed(0))
    name = family.gradients[0]
    leaf = tensors(arguments)[name].requires_grad_()
    result = family.call(ops, {**arguments, name: leaf})[family.outputs[0]]
    (gradient,) = torch.autograd.grad(result.sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
        gradient.sum().backward()


def test_autocast_keeps_statistics_in_float32() -> None:
    weight, features = rows(8, 33), rows(5, 8, grad=False, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = features @ weight
        value, chosen = soft_value(q, tau=0.5), token_cross_entropy(q, torch.arange(5))
    assert q.dtype == torch.bfloat16
    assert value.dtype == chosen.dtype == torch.float32
    (gradient,) = torch.autograd.grad(value.sum() + chosen.sum(), weight)
    assert gradient.dtype == torch.float32
    assert torch.equal(value, soft_value(q.float(), tau=0.5))


@pytest.mark.parametrize("context", (torch.no_grad, torch.inference_mode))
def test_without_a_graph_nothing_requires_a_gradient(context: Any) -> None:
    logits, q = rows(2, 5), rows(2, 5)
    with context():
        value, entropy = policy_value(logits, q, tau=0.5)
    assert not value.requires_grad and not entropy.requires_grad
    torch.testing.assert_close(value, policy_value(logits, q, tau=0.5).value.detach(), rtol=0, atol=0)


def test_a_checkpointed_segment_gives_the_same_gradient() -> None:
    arguments = POLICY_VALUE.make((3, 7), torch.Generator().manual_seed(0))
    logits, q = (tensors(arguments)[name].requires_grad_() for name in ("logits", "q"))

    def segment(logits: Tensor, q: Tensor) -> Tensor:
        return policy_value(logits * 2, q, tau=0.3).value

    plain = torch.autograd.grad(segment(logits, q).sum(), (logits, q))
    checkpointed = torch.utils.checkpoint.checkpoint(segment, logits, q, use_reentrant=False)
    for one, other in zip(torch.autograd.grad(checkpointed.sum(), (logits, q)), plain, strict=True):
        assert torch.equal(one, other)

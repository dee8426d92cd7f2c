"""The operators on heads against their float64 references and against the operators on whole logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

import softbellman as ops
import softbellman as sb
from losses.harness import Arguments, lay_out, tensors
from losses.head_cases import (
    CRITIC,
    HEAD,
    MIXTURE,
    POLICY,
    RESIDUAL,
    TOKEN,
    HeadCase,
    assert_same,
    cast,
    compare,
    composed,
    every_case,
    every_reducing_case,
    make,
    poisoned,
    random_upstream,
    run,
    widened,
)
from softbellman import reference

INFINITY = float("inf")


@every_case
@pytest.mark.parametrize("leading", ((), (1,), (5,), (2, 3), (2, 1, 4), (0,), (2, 0)), ids=str)
@pytest.mark.parametrize("vocabulary", (1, 2, 33))
def test_shapes(case: HeadCase, leading: tuple[int, ...], vocabulary: int) -> None:
    if case is RESIDUAL and len(leading) > 2:
        pytest.skip("sequences are [B, T]")
    arguments = make(case, leading, vocabulary=vocabulary)
    compare(case, arguments, random_upstream(case, arguments))


@every_case
@pytest.mark.parametrize("chunk_rows", (1, 4, 14, 1000))
@pytest.mark.parametrize("masked", (False, True), ids=("all real", "masked"))
@pytest.mark.parametrize("biased", (True, False), ids=("bias", "no bias"))
def test_chunks(case: HeadCase, chunk_rows: int, masked: bool, biased: bool) -> None:
    arguments = {**make(case, (2, 7)), "chunk_rows": chunk_rows}
    upstream = random_upstream(case, arguments)
    if masked:
        arguments["mask"] = torch.arange(7).expand(2, 7) < torch.tensor([[5], [2]])
    if not biased:
        arguments = {name: value for name, value in arguments.items() if name not in ("bias", "q_bias")}
        case = replace(case, gradients=tuple(name for name in case.gradients if "bias" not in name))
    compare(case, arguments, upstream)


@every_reducing_case
@pytest.mark.parametrize("reduction", ("sum", "mean"))
@pytest.mark.parametrize("masked", (False, True), ids=("all real", "masked"))
def test_reductions(case: HeadCase, reduction: str, masked: bool) -> None:
    arguments = {**make(case, (3, 5)), "reduction": reduction, "chunk_rows": 4}
    if masked:
        arguments["mask"] = torch.arange(5).expand(3, 5) < torch.tensor([[5], [2], [0]])
    upstream = {name: torch.tensor(-1.7, dtype=torch.float64) for name in case.outputs}
    compare(case, arguments, upstream)
    nothing = {**arguments, "mask": torch.zeros(3, 5, dtype=torch.bool)}
    compare(case, nothing, upstream)
    with torch.no_grad():  # no gradient is taken along
        result = case.call(ops, arguments)
    torch.testing.assert_close(result["loss"], case.call(reference, arguments)["loss"])


@every_reducing_case
@pytest.mark.parametrize("reduction", ("none", "sum", "mean"))
def test_row_weights(case: HeadCase, reduction: str) -> None:
    mask = torch.arange(5).repeat(2, 1) < 3
    weights = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    clean = {
        **make(case, (2, 5)),
        "mask": mask,
        "reduction": reduction,
        "chunk_rows": 2,
        "row_weights": weights,
    }
    upstream = random_upstream(case, clean)
    if reduction != "none":
        upstream = {name: torch.tensor(0.7, dtype=torch.float64) for name in case.outputs}
    dirty = {**clean, **poisoned(case, clean, mask), "row_weights": weights.masked_fill(~mask, float("nan"))}
    expected = run(case, partial(case.call, reference), clean, upstream)
    assert_same(run(case, partial(case.call, ops), dirty, upstream), expected)


def largest_error(actual: Tensor, exact: Tensor) -> float:
    return float((actual.double() - exact).abs().max())


@every_case
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_rounding_is_that_of_whole_logits(case: HeadCase, dtype: torch.dtype, reduction: str) -> None:
    """Errors against float64 are at most twice those of the operator on `hidden @ weight.T + bias` in the same type."""
    if reduction == "sum" and not case.reduces:
        pytest.skip("a value has no reduction")
    arguments = make(case, (16, 12), hidden=24, vocabulary=301, dtype=dtype)
    upstream = {name: torch.ones(16, 12) for name in case.outputs} if reduction == "sum" else None
    upstream = upstream or random_upstream(case, arguments)
    exact = run(case, partial(case.call, reference), widened(arguments), widened(dict(upstream)))
    whole = run(case, partial(composed, case), arguments, upstream)
    ours = {**arguments, "chunk_rows": 32}
    if reduction == "sum":
        ours["reduction"] = "sum"
        exact[0]["loss"], whole[0]["loss"] = exact[0]["loss"].sum(), whole[0]["loss"].sum()
        if "entropy" in upstream:  # without a graph when the loss is reduced
            zeros = {**upstream, "entropy": torch.zeros(16, 12)}
            exact = exact[0], run(case, partial(case.call, reference), widened(arguments), widened(zeros))[1]
            whole = whole[0], run(case, partial(composed, case), arguments, zeros)[1]
        upstream = {name: torch.tensor(1.0) for name in case.outputs}
    actual = run(case, partial(case.call, ops), ours, upstream)
    for which in (0, 1):
        for name, value in actual[which].items():
            assert value.dtype == whole[which][name].dtype, name
            truth = exact[which][name].double()
            unit = torch.finfo(value.dtype).eps * float(truth.abs().max())
            allowed = 2 * largest_error(whole[which][name], truth) + unit
            assert largest_error(value, truth) <= allowed, name


@every_case
def test_with_exact_products_the_results_are_those_of_whole_logits_bit_by_bit(case: HeadCase) -> None:
    """Multiples of 1/8 below 2: every order of summation gives the same float32 logits."""
    arguments = make(case, (4, 9), hidden=8, vocabulary=300, dtype=torch.float32)
    rounded = {
        name: (tensors(arguments)[name].clamp(-1.9, 1.9) * 8).round() / 8
        for name in (*HEAD, "q_hidden", "q_weight", "q_bias")
        if name in arguments
    }
    arguments = {**arguments, **rounded}
    whole = composed(case, arguments)
    for chunk_rows in (1, 7, 64):
        for name, value in case.call(ops, {**arguments, "chunk_rows": chunk_rows}).items():
            if case is CRITIC and name != "td_error":  # from second moments
                torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=0)
            else:
                assert torch.equal(value, whole[name]), name


@every_case
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("real", (0, 3), ids=("all masked", "some masked"))
def test_nan_in_a_masked_row_never_leaks(case: HeadCase, dtype: torch.dtype, real: int) -> None:
    mask = torch.arange(5).repeat(2, 1) < real
    arguments = {**make(case, (2, 5), dtype=dtype), "chunk_rows": 2}
    upstream = random_upstream(case, arguments)
    clean = run(case, partial(case.call, ops), {**arguments, "mask": mask}, upstream)
    upstream = {name: gradient.masked_fill(~mask, float("nan")) for name, gradient in upstream.items()}
    dirty = run(case, partial(case.call, ops), poisoned(case, arguments, mask), upstream)
    for some, others in zip(dirty, clean, strict=True):
        for name, value in some.items():
            assert torch.equal(value, others[name]), name
            if value.shape[:2] == mask.shape:
                assert not value[~mask].any(), f"{name} is not 0 in a masked row"


@every_reducing_case
def test_nan_in_a_masked_row_never_reaches_a_reduced_loss(case: HeadCase) -> None:
    mask = torch.arange(5).repeat(2, 1) < 3
    arguments = {**make(case, (2, 5)), "chunk_rows": 2, "reduction": "mean"}
    clean = run(case, partial(case.call, ops), {**arguments, "mask": mask})
    dirty = run(case, partial(case.call, ops), poisoned(case, arguments, mask))
    for some, others in zip(dirty, clean, strict=True):
        for name, value in some.items():
            assert torch.equal(value, others[name]), name


@every_case
def test_forbidden_tokens(case: HeadCase) -> None:
    """`-inf` in the biases takes a token away and gives it no gradient."""
    arguments = {**make(case, (2, 5)), "chunk_rows": 3}
    closed = torch.zeros(33, dtype=torch.bool)
    closed[[0, 7, 32]] = True
    for name in {"bias", "q_bias"} & arguments.keys():
        arguments[name] = tensors(arguments)[name].masked_fill(closed, -INFINITY)
    for name in set(case.per_row) & {"targets", "actions"}:
        ids = tensors(arguments)[name]
        if not ids.is_floating_point():
            arguments[name] = torch.where(closed[ids], 1, ids)
    upstream = random_upstream(case, arguments)
    compare(case, arguments, upstream)
    _, gradients = run(case, partial(case.call, ops), arguments, upstream)
    assert not gradients["weight"][closed].any() and not gradients["bias"][closed].any()


def test_an_oracle_may_forbid_what_the_policy_does_not() -> None:
    arguments = make(MIXTURE, (2, 5))
    arguments["q_bias"] = tensors(arguments)["q_bias"].index_fill(0, torch.tensor([3, 4]), -INFINITY)
    compare(MIXTURE, arguments, random_upstream(MIXTURE, arguments))
    arguments["q_bias"] = torch.full_like(tensors(arguments)["q_bias"], -INFINITY)  # no opinion at all
    compare(MIXTURE, arguments, random_upstream(MIXTURE, arguments))


@every_case
@pytest.mark.parametrize("layout", ("transposed", "sliced", "gapped", "expanded"))
def test_strides(case: HeadCase, layout: str) -> None:
    arguments = make(case, (3, 4))
    names = [name for name in ("hidden", "q_hidden", "weight", "q_weight") if name in arguments]
    laid = {name: lay_out(tensors(arguments)[name], layout) for name in names}
    compare(case, {**arguments, **laid, "chunk_rows": 5}, random_upstream(case, arguments))


def test_a_weight_with_no_unit_stride() -> None:
    arguments = make(TOKEN, (9,))
    wide = torch.zeros(66, 12, dtype=torch.float64)
    wide[::2, ::2] = tensors(arguments)["weight"]
    compare(TOKEN, {**arguments, "weight": wide[::2, ::2]}, random_upstream(TOKEN, arguments))


@pytest.mark.parametrize("wanted", (("hidden",), ("weight",), ("bias",), ("hidden", "bias")), ids=str)
@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_single_gradients(wanted: tuple[str, ...], reduction: str) -> None:
    arguments = {**make(CRITIC, (11,)), "reduction": reduction, "chunk_rows": 4}
    call = partial(CRITIC.call, ops)
    _, everything = run(CRITIC, call, arguments)
    _, some = run(CRITIC, call, arguments, wanted=wanted)
    assert some.keys() == set(wanted)
    for name, gradient in some.items():
        assert torch.equal(gradient, everything[name])


@pytest.mark.parametrize(
    "wanted", (("hidden", "weight"), ("q_hidden", "q_weight", "q_bias"), ("bias", "q_hidden"))
)
@pytest.mark.parametrize("output", ("value", "entropy"))
def test_one_result_and_one_head_of_the_policy_value(wanted: tuple[str, ...], output: str) -> None:
    arguments = {**make(POLICY, (11,)), "chunk_rows": 4}
    leaves = {name: tensors(arguments)[name].requires_grad_() for name in wanted}
    gradients = []
    for module in (ops, reference):
        result = POLICY.call(module, {**arguments, **leaves})[output]
        if result.requires_grad:
            total = result.square().sum()
            gradients.append(torch.autograd.grad(total, list(leaves.values()), materialize_grads=True))
        else:  # the entropy does not depend on q
            gradients.append(tuple(torch.zeros_like(leaf) for leaf in leaves.values()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ("none", "sum"))
def test_the_gradient_of_a_16_bit_weight_is_added_up_in_float32(reduction: str) -> None:
    """Equal terms, one a chunk: a bfloat16 sum would stand still at 256 of them."""
    rows, weight = 2000, torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    hidden, targets = torch.ones(rows, 1, dtype=torch.bfloat16), torch.zeros(rows, dtype=torch.int64)
    loss = sb.token_cross_entropy(sb.Head(hidden, weight, bias, chunk_rows=1), targets, reduction=reduction)
    grad_weight, grad_bias = torch.autograd.grad(loss.sum(), (weight, bias))
    assert grad_weight.flatten().tolist() == grad_bias.tolist() == [-rows / 2, rows / 2]


def test_a_16_bit_weight_of_several_blocks_of_tokens() -> None:
    arguments = {**make(TOKEN, (40,), vocabulary=2500, dtype=torch.bfloat16), "chunk_rows": 16}
    _, actual = run(TOKEN, partial(TOKEN.call, ops), arguments)
    _, exact = run(TOKEN, partial(TOKEN.call, reference), widened(arguments))
    for first in range(0, 2500, 500):
        block, truth = (gradients["weight"][first : first + 500].double() for gradients in (actual, exact))
        assert float((block - truth).norm() / truth.norm()) < 0.03


def test_draws_are_those_of_whole_logits() -> None:
    """With exact products the same tokens for any chunk, masked rows and forbidden tokens included."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-8, 8, (5, 30, 6), generator=generator) / 8
    weight, bias = (torch.randint(-8, 8, shape, generator=generator) / 8 for shape in ((70, 6), (70,)))
    mask = torch.rand(5, 30, generator=generator) < 0.7
    forbidden = torch.rand(70, generator=generator) < 0.3
    options = {"seed": 3, "offset": 2**40 + 1, "temperature": 0.7, "forbidden": forbidden, "mask": mask}
    poison = hidden.masked_fill(~mask.unsqueeze(-1), float("nan"))
    whole = sb.sample_tokens(hidden @ weight.T + bias, **options)
    for chunk_rows in (1, 16, 64, None):
        drawn = sb.sample_tokens(sb.Head(poison, weight, bias, chunk_rows=chunk_rows), **options)
        for one, other in zip(drawn, whole, strict=True):
            assert torch.equal(one, other)
    assert len(whole.tokens.unique()) > 20 and not forbidden[whole.tokens[mask]].any()
    kept = mask & (torch.rand(5, 30, generator=generator) < 0.5)  # by number, seed and offset in memory
    options |= {"seed": torch.tensor(3), "offset": torch.tensor(2**40 + 1), "mask": None}
    numbers = torch.arange(150).view(5, 30)[kept]
    some = sb.sample_tokens(
        sb.Head(hidden[kept], weight, bias, chunk_rows=16), row_numbers=numbers, **options
    )
    assert torch.equal(some.tokens, whole.tokens[kept])
    options |= {"mask": mask}
    referred = reference.sample_tokens(poison.double() @ weight.T.double() + bias.double(), **options)
    assert torch.equal(referred.tokens, whole.tokens)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16, torch.float16), ids=str)
def test_backward_kernels_may_write_over_their_logits(dtype: torch.dtype) -> None:
    """The row kernels give the same bits in place, which the chunks rely on."""
    from softbellman.losses.critic import critic_backward, critic_forward
    from softbellman.losses.cross_entropy import cross_entropy_backward, cross_entropy_forward
    from softbellman.losses.policy import policy_backward, policy_forward
    from softbellman.losses.soft_value import action_soft_value_backward, action_soft_value_forward

    generator = torch.Generator().manual_seed(0)
    logits, q = torch.randn(2, 6, 5001, generator=generator, dtype=torch.float64).mul(3).to(dtype)
    logits[0, 17] = -INFINITY
    ids = torch.randint(0, 5001, (6,), generator=generator)
    numbers = torch.randn(6, generator=generator, dtype=torch.float64).to(
        torch.float64 if dtype == torch.float64 else torch.float32
    )

    def check(backward: Callable[..., None], *overwritten: Tensor) -> None:
        apart = [torch.empty_like(rows) for rows in overwritten]
        copies = [rows.clone() for rows in overwritten]
        backward(*apart)
        for rows, copy in zip(overwritten, copies, strict=True):
            assert torch.equal(rows, copy)
        backward(*overwritten)
        for rows, copy, expected in zip(overwritten, copies, apart, strict=True):
            assert torch.equal(rows, expected)
            rows.copy_(copy)

    inputs = (0.5, ids, numbers.abs(), None)
    _, *saved = cross_entropy_forward(logits, q, *inputs)
    check(partial(cross_entropy_backward, numbers, logits, q, *inputs, *saved), logits)
    value, _, correction = action_soft_value_forward(q, 0.5, ids, None)
    check(partial(action_soft_value_backward, numbers, numbers, q, 0.5, ids, None, value, correction), q)
    _, td_error, _, *means = critic_forward(q, ids, numbers, 0.1, None)
    check(partial(critic_backward, numbers, q, ids, numbers, 0.1, None, td_error, *means), q)
    saved = policy_forward(logits, q, None, 0.3, 0, None)
    check(partial(policy_backward, numbers, numbers, logits, q, None, 0.3, 0, None, *saved), logits, q)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    (
        ({"weight": torch.zeros(33, 5, dtype=torch.float64)}, ValueError, r"weight must have shape \[V, 6\]"),
        ({"weight": torch.zeros(0, 6, dtype=torch.float64)}, ValueError, "weight must have at least one row"),
        ({"weight": torch.zeros(33, 6)}, TypeError, "weight must have the dtype of hidden"),
        ({"bias": torch.zeros(32, dtype=torch.float64)}, ValueError, r"bias must have shape \(33,\)"),
        ({"bias": torch.zeros(33)}, TypeError, "bias must have the dtype of hidden"),
        ({"bias": 0.0}, TypeError, "bias must be a tensor"),
        ({"targets": torch.zeros(4, dtype=torch.int64)}, ValueError, r"targets must have shape \(5,\)"),
        (
            {"targets": torch.tensor([0, 1, 33, 2, 3])},
            ValueError,
            r"targets must be ids in \[0, 33\), got 33 in row 2",
        ),
        (
            {"q_hidden": torch.zeros(4, 8, dtype=torch.float64)},
            ValueError,
            "q must have the shape of logits",
        ),
        (
            {"q_weight": torch.zeros(32, 8, dtype=torch.float64), "q_bias": None},
            ValueError,
            "q must have the shape of logits",
        ),
        ({"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1"),
        ({"chunk_rows": 2.0}, TypeError, "chunk_rows must be an int or None"),
        ({"reduction": "average"}, ValueError, "reduction must be one of 'none', 'sum', 'mean'"),
        (
            {"targets": None, "oracle_weight": 0.5},
            ValueError,
            "targets must be given unless oracle_weight is 1",
        ),
    ),
)
def test_refusals(changed: Arguments, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MIXTURE.call(ops, {**make(MIXTURE, (5,)), **changed})


def test_residuals_need_sequences() -> None:
    arguments = make(RESIDUAL, (2, 3))
    with pytest.raises(ValueError, match="q must have 3 dimensions"):
        RESIDUAL.call(ops, {**arguments, "hidden": tensors(arguments)["hidden"][0]})


def test_mixed_precision_rows_stay_in_the_statistic_type() -> None:
    arguments = cast(make(TOKEN, (5,)), torch.bfloat16)
    assert TOKEN.call(ops, arguments)["loss"].dtype == torch.float32

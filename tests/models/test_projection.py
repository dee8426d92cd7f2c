"""Layers with bfloat16 factors: how much they err, what type everything has, where it ends."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from softbellman.models import AttentionSeq2Seq
from softbellman.models.projection import bfloat16_products, known_logits, project
from softbellman.models.recurrent import run_lstm, step_lstm

UNIT = 2.0**-8  # one rounding to bfloat16 errs by half of it, relatively


@pytest.fixture
def layer() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 40, 64), (200, 64), (200,))
    return tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)


def gradients(outputs: torch.Tensor, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    upstream = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).to(outputs.dtype)
    return torch.autograd.grad(outputs, inputs, upstream)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(((found.float() - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("use", ["none", "gradients", "output", "all"])
def test_products_err_by_the_rounding_of_their_factors(layer, use) -> None:
    wanted = linear(*layer)
    with bfloat16_products(use):
        found = project(*layer)
    assert found.dtype == (torch.bfloat16 if use in ("output", "all") else torch.float32)
    assert found.shape == wanted.shape
    if found.dtype == torch.float32:
        assert torch.equal(found, wanted)
    assert relative_error(found, wanted) < UNIT
    for ours, exact, parameter in zip(gradients(found, layer), gradients(wanted, layer), layer, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == parameter.shape
        error = relative_error(ours, exact)
        assert error < UNIT
        assert use == "none" or error > UNIT / 100  # they are rounded indeed


@pytest.mark.parametrize("use", ["none", "gradients"])
def test_known_logits_have_the_gradient_of_the_product(layer, use) -> None:
    with bfloat16_products(use):
        computed, known = project(*layer), known_logits(*layer, linear(*layer).detach())
    assert torch.equal(computed, known)
    for ours, theirs in zip(gradients(known, layer), gradients(computed, layer), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_forbidden_token_has_no_gradient(layer) -> None:
    logits = linear(*layer).detach()
    logits[..., 5] = -torch.inf
    with bfloat16_products("all"):
        known = known_logits(*layer, logits.bfloat16())
    loss = -known.log_softmax(-1)[..., 0].sum()
    found = torch.autograd.grad(loss, layer)
    assert all(part.isfinite().all() for part in found)
    assert (found[1][5] == 0).all() and found[2][5] == 0


def test_the_backward_pass_works_as_the_forward_pass_did(layer) -> None:
    with bfloat16_products("gradients"):
        found = project(*layer)
        within = gradients(found, layer)
        found = project(*layer)
    assert all(map(torch.equal, gradients(found, layer), within))
    with bfloat16_products("all"), bfloat16_products("none"):
        assert project(*layer).dtype == torch.float32
    assert project(*layer).dtype == torch.float32


@pytest.mark.parametrize("use", ["output", "all"])
def test_a_model_s_logits_and_weights(use) -> None:
    torch.manual_seed(0)
    model = AttentionSeq2Seq(20, 30, embedding=8, hidden=8, attention_size=8, dropout=0.0)
    source, prefix = torch.randint(4, 20, (2, 5)), torch.randint(4, 30, (4, 6))
    wanted = model(source, prefix)
    with bfloat16_products(use):
        found = model(source, prefix)
        step, _ = model.step(prefix[:, 0], model.begin(source).repeat(2))
    assert found.dtype == step.dtype == torch.bfloat16
    torch.testing.assert_close(
        found.float(), wanted, rtol=0, atol=2 * UNIT * float(wanted.detach().abs().max())
    )
    torch.testing.assert_close(step.float(), found[:, 0].float(), rtol=0, atol=2 * UNIT)
    found.float().square().mean().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_layers_err_by_the_rounding_of_their_factors(layers) -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(12, 16, num_layers=layers, batch_first=True)
    inputs = torch.randn(5, 9, 12, requires_grad=True)
    state = torch.randn(2, layers, 5, 16).requires_grad_()
    wanted, (hidden, cell) = lstm(inputs, (state[0], state[1]))
    same = run_lstm(lstm, inputs, (state[0], state[1]))
    assert all(map(torch.equal, same, (wanted, hidden, cell)))
    with bfloat16_products("output"):
        assert torch.equal(run_lstm(lstm, inputs, (state[0], state[1]))[0], wanted)
    with bfloat16_products("all"):
        found = run_lstm(lstm, inputs, (state[0], state[1]))
    parts = (inputs, state, *lstm.parameters())
    for ours, theirs in zip(found, (wanted, hidden, cell), strict=True):
        assert ours.dtype == torch.float32
        assert UNIT / 100 < relative_error(ours, theirs) < 2 * UNIT
    for ours, theirs in zip(gradients(found[0], parts), gradients(wanted, parts), strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) < 4 * UNIT


def test_a_step_of_lstm_layers_is_that_of_the_sequence() -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(12, 16, batch_first=True)
    inputs, zero = torch.randn(5, 3, 12), torch.zeros(5, 16)
    for use, tolerance in (("none", 1e-6), ("all", 4 * UNIT)):
        with torch.no_grad(), bfloat16_products(use):
            wanted, hidden, cell = run_lstm(lstm, inputs, (zero[None], zero[None]))
            state = zero, zero
            for t in range(3):
                state = step_lstm(lstm, 0, inputs[:, t], *state)
                assert relative_error(state[0], wanted[:, t]) < tolerance
            assert relative_error(state[1], cell[0]) < tolerance
            torch.testing.assert_close(hidden[0], wanted[:, -1])


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_changed_weight_is_rounded_anew(layer, optimizer, counted, monkeypatch) -> None:
    if not counted:  # a torch that does not say how often a tensor was changed
        monkeypatch.setattr("softbellman.models.projection._changes", lambda tensor: None)
    step = optimizer(layer, lr=0.1, fused=True)
    with bfloat16_products("all"):
        before = project(*layer)
        assert torch.equal(project(*layer), before)  # with the kept weights
        before.float().square().mean().backward()
        step.step()
        after = project(*layer)
        with torch.no_grad():
            layer[1].zero_()
            layer[2].zero_()
        assert (project(*layer) == 0).all()
    assert not torch.equal(after, before)

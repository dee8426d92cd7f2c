"""LSTM layers as the encoders and decoders run them: every device, with and without autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from softbellman.models import recurrent
from softbellman.models.recurrent import run_lstm


@pytest.mark.parametrize("supported", [True, False])
def test_a_layer_under_autocast(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    """Within bfloat16's rounding, whether or not the processor has the layer in it."""
    if supported and not recurrent.autocast_has_lstm():
        pytest.skip("this processor has no bfloat16 LSTM")
    monkeypatch.setattr(recurrent, "autocast_has_lstm", lambda: supported)
    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(5, 4, batch_first=True), torch.randn(3, 6, 5)
    state = (torch.randn(1, 3, 4), torch.randn(1, 3, 4))
    wanted = run_lstm(lstm, inputs, state)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run_lstm(lstm, inputs.to(dtype), (state[0].to(dtype), state[1].to(dtype)))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.float(), other, rtol=0, atol=0.03)
        lstm.zero_grad()
        found[0].float().sum().backward()
        assert all(
            parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in lstm.parameters()
        )


def test_asking_draws_nothing() -> None:
    recurrent.autocast_has_lstm.cache_clear()
    before = torch.get_rng_state()
    recurrent.autocast_has_lstm()
    assert torch.equal(before, torch.get_rng_state())


def test_a_layer_without_data() -> None:
    lstm = nn.LSTM(5, 4, batch_first=True, device="meta")
    state = torch.zeros(1, 3, 4, device="meta")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run_lstm(lstm, torch.zeros(3, 6, 5, device="meta"), (state, state))[0].shape == (3, 6, 4)

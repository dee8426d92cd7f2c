"""Logits over a temperature, stored or of a head."""

from __future__ import annotations

import pytest
import torch

from softbellman import Head
from softbellman.core.head import scaled


@pytest.mark.parametrize("biased", [True, False])
def test_a_scaled_head_has_scaled_logits(biased: bool) -> None:
    torch.manual_seed(4)
    bias = torch.randn(5) if biased else None
    head = Head(torch.randn(3, 4), torch.randn(5, 4), bias, scale=0.5)
    found = scaled(head, 10.0)
    assert isinstance(found, Head)
    torch.testing.assert_close(found.logits(), 10.0 * head.logits())
    logits = torch.randn(2, 5)
    assert torch.equal(scaled(logits, 10.0), 10.0 * logits)
    with pytest.raises(ValueError, match="a head with a softcap cannot be scaled"):
        scaled(Head(torch.randn(3, 4), torch.randn(5, 4), softcap=3.0), 10.0)

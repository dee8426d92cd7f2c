"""Transformers of text and of images, each with sources."""

from __future__ import annotations

import pytest
from torch import Tensor
from transformer_cases import CASES

from softbellman.models import TransformerDecoder


@pytest.fixture(params=CASES)
def case(request) -> tuple[TransformerDecoder, Tensor]:
    build, source = CASES[request.param]
    return build(), source()

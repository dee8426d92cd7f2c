"""Keys of random draws: stages and seeds do not share them, and every one is a seed the operators take."""

from __future__ import annotations

import torch

from softbellman import sample_tokens
from softbellman.training.stages import draw_key


def test_every_key_can_seed_a_draw() -> None:
    keys = {
        draw_key(seed, f"{stage}/draws") for seed in range(200) for stage in ("critic", "joint", "oracle")
    }
    assert len(keys) == 600
    assert all(0 <= key < 2**63 for key in keys)
    sample_tokens(torch.zeros(1, 2), seed=max(keys))

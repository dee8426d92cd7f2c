"""The sampling kernel on the SIMT shim: the tokens of the CPU, and the distribution asked for."""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import SIZES, Batch, native_fields, remove_tokens
from torch import Tensor

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

NUMBERS = {"seed": 2**63 + 11, "offset": 5_000_000_000, "row_base": 3}


def draw(
    simt: ModuleType,
    batch: Batch,
    logits: Tensor,
    forbidden: Tensor | None,
    *,
    temperature: float = 0.8,
    **noise: int | Tensor,
) -> list[Tensor]:
    tokens = torch.full((batch.rows,), -5)
    log_prob, entropy = batch.statistic(), batch.statistic()
    batch.call(
        simt.sample_forward, logits=logits, temperature=temperature, **NUMBERS | noise, forbidden=forbidden,
        mask=batch.mask, tokens=tokens, log_prob=log_prob, entropy=entropy,
    )  # fmt: skip
    return [tokens, log_prob, entropy]


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", ["finite", "all but one", "all"])
def test_sampling_draws_the_tokens_of_the_cpu(
    simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str
) -> None:
    native = pytest.importorskip("softbellman.core.native", reason="the native module is not built")
    batch = Batch(vocab, dtype, rows=11, shift=vocab % 5, gap=1)
    logits = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), pattern))
    forbidden = (
        torch.rand(vocab, generator=batch.generator) < 0.2 if pattern == "finite" and vocab > 1 else None
    )
    tokens, log_prob, entropy = draw(simt, batch, logits, forbidden)
    expected = [torch.full((11,), -5), torch.zeros(11, dtype=batch.wide), torch.zeros(11, dtype=batch.wide)]
    row = {"logits": logits, "forbidden": forbidden, "mask": batch.mask}
    results = dict(zip(("tokens", "log_prob", "entropy"), expected, strict=True))
    native.cpu.sample_forward(**native_fields(row | results), temperature=0.8, **NUMBERS, threads=1)
    assert torch.equal(tokens, expected[0])
    batch.check(log_prob, expected[1].double())
    batch.check(entropy, expected[2].double())
    in_memory = {
        "seed_at": torch.tensor(NUMBERS["seed"] - 2**64),
        "offset_at": torch.tensor(NUMBERS["offset"]),
    }
    numbers = torch.arange(3, 14)
    again = draw(
        simt, batch, logits, forbidden, seed=1, offset=1, row_base=1, **in_memory, row_numbers=numbers
    )
    assert all(map(torch.equal, again, (tokens, log_prob, entropy)))


def test_sampling_follows_the_distribution(simt: ModuleType) -> None:
    batch = Batch(5, torch.float32, rows=1000)
    batch.mask.fill_(True)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, float("-inf")]).expand(1000, 5)  # stride 0
    tokens, log_prob, entropy = draw(simt, batch, logits, None, temperature=1.0)
    policy = logits[0].double().softmax(-1)
    deviation = (policy * (1 - policy) / 1000).sqrt()
    frequency = torch.bincount(tokens, minlength=5) / 1000
    assert ((frequency - policy).abs() <= 4 * deviation).all()
    batch.check(log_prob, policy.log()[tokens])
    batch.check(entropy, -(policy[:4] * policy[:4].log()).sum().expand(1000))

"""Philox4x32-10, the counter-based generator behind `sample_tokens`, in 64-bit integer arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Ten rounds on four counter words; all words, the four results too, are int64 tensors holding 32 bits.

    A product of two 32-bit words may wrap around int64; masking after the shift recovers its upper half all
    the same.
    """
    word0, word1, word2, word3 = counter
    key0, key1 = key
    for _ in range(10):
        product0, product1 = word0 * _MULTIPLIERS[0], word2 * _MULTIPLIERS[1]
        word0, word1, word2, word3 = (
            ((product1 >> 32) & _WORD) ^ word1 ^ key0,
            product1 & _WORD,
            ((product0 >> 32) & _WORD) ^ word3 ^ key1,
            product0 & _WORD,
        )
        key0, key1 = (key0 + _KEY_STEPS[0]) & _WORD, (key1 + _KEY_STEPS[1]) & _WORD
    return [word0, word1, word2, word3]


def random_words(rows: int | Tensor, columns: int, *, seed: int, offset: int, first_block: int = 0) -> Tensor:
    """[rows, columns] 32-bit words: lane `column % 4` of the block at counter (first_block + column / 4, row, offset).

    `rows` says how many, counted from 0, or which, int64.
    """
    blocks = first_block + torch.arange((columns + 3) // 4).unsqueeze(0)
    row = (torch.arange(rows) if isinstance(rows, int) else rows & _WORD).unsqueeze(1)
    counter = (blocks, row, torch.tensor(offset & _WORD), torch.tensor((offset >> 32) & _WORD))
    lanes = philox4x32(counter, (seed & _WORD, (seed >> 32) & _WORD))
    # (rows, blocks) four times -> (rows, columns)
    return torch.stack(lanes, dim=-1).reshape(len(row), 4 * blocks.numel())[:, :columns]

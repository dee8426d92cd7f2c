"""Decoding with other reserved ids finds what the same model gives under those of this package, renamed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from softbellman.data import BOS, EOS, PAD, RESERVED, UNK, SpecialTokens
from softbellman.decoding import Decoding, beam_search, decode, greedy_search, sample

V = 12
MARIAN = SpecialTokens(pad=11, unknown=1, bos=11, eos=0, others=(5,))


class Bigram(nn.Module):
    """Logits that depend on the last token, with this package's ids or renamed ones."""

    def __init__(self, names: Tensor | None = None) -> None:
        super().__init__()
        table = torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 2
        self.names = torch.arange(V) if names is None else names
        self.table = nn.Parameter(table)

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        old = torch.zeros(V, dtype=torch.int64)
        old[self.names] = torch.arange(V)
        said = self.table[old[prefix]]
        renamed = torch.empty_like(said)
        renamed[..., self.names] = said
        return renamed


def renamed_ids() -> Tensor:
    """New id of each old one: EOS becomes 0, UNK stays 1, BOS becomes 11."""
    names = torch.full((V,), -1)
    names[EOS], names[UNK], names[BOS], names[PAD] = 0, 1, 11, 5  # the old padding is one of the others
    names[names < 0] = torch.tensor([i for i in range(V) if i not in (0, 1, 5, 11)])
    return names


@pytest.mark.parametrize("beam", [1, 3])
def test_search_finds_the_same_under_other_names(beam) -> None:
    source, names = torch.zeros(4, 1, dtype=torch.int64), renamed_ids()
    plain = beam_search(Bigram(), source, beam=beam, max_length=9, best=beam)
    other = beam_search(Bigram(names), source, beam=beam, max_length=9, best=beam, special=MARIAN)
    assert plain.lengths.tolist() == other.lengths.tolist()
    torch.testing.assert_close(plain.scores, other.scores)
    for ours, theirs, length in zip(plain.tokens, other.tokens, plain.lengths.tolist(), strict=True):
        assert names[ours[:length]].tolist() == theirs[:length].tolist()
        assert (theirs[length:] == MARIAN.pad).all()


def test_draws_end_and_leave_out_what_is_never_produced() -> None:
    source = torch.zeros(300, 1, dtype=torch.int64)
    found = sample(Bigram(renamed_ids()), source, max_length=12, seed=3, special=MARIAN)
    inside = torch.arange(found.tokens.shape[1]) < found.lengths[:, None]
    assert not set(found.tokens[inside].tolist()) & set(MARIAN.never)
    assert (found.tokens[~inside] == MARIAN.pad).all()
    last = found.tokens.gather(1, found.lengths[:, None] - 1).squeeze(1)
    assert ((last == 0) | (found.lengths == 12)).all() and (last == 0).any()
    before = inside & (torch.arange(found.tokens.shape[1]) < found.lengths[:, None] - 1)
    assert not (found.tokens[before] == 0).any()
    allowed = sample(Bigram(renamed_ids()), source, max_length=12, seed=3, special=MARIAN, allow_unknown=True)
    assert (allowed.tokens == 1).any()


def test_a_description_passes_them_on() -> None:
    source = torch.zeros(2, 1, dtype=torch.int64)
    model, how = Bigram(renamed_ids()), Decoding(beam=1, max_length=9, block_ngrams=1, batch_size=2)
    (best,), _ = decode(how.of_model([model], MARIAN), source, how, special=MARIAN)
    body = best.tokens[:-1] if best.tokens[-1] == 0 else best.tokens
    assert len(set(body)) == len(body) and not set(body) & set(MARIAN.never)
    plain = greedy_search(model, source, max_length=9, special=MARIAN)
    assert plain.tokens[0, 0] == best.tokens[0]


def test_the_reserved_ids_of_this_package() -> None:
    assert (
        SpecialTokens() == RESERVED and RESERVED.never == (PAD, UNK, BOS) and RESERVED.unspoken == (PAD, BOS)
    )
    assert MARIAN.never == (1, 5, 11) and SpecialTokens(pad=1, bos=2, eos=2, unknown=None).never == (1,)


def test_padding_is_no_end() -> None:
    with pytest.raises(ValueError, match="pad and eos must be different ids, got 3 for both"):
        SpecialTokens(pad=3)
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        SpecialTokens(others=(-1,))

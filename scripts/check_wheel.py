"""Whether an installed wheel works: a loss with its gradient and a payoff from the native core; files that are no code."""

from __future__ import annotations

import torch

import softbellman
from softbellman.data.fetch import read_sources


def main() -> None:
    q = torch.randn(3, 1000, requires_grad=True)
    value = softbellman.soft_value(q, tau=0.5)
    expected = 0.5 * torch.logsumexp(q / 0.5, -1)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value.sum(), q)
    torch.testing.assert_close(gradient, torch.softmax(q.detach() / 0.5, -1))

    tokens = torch.arange(4, 12).view(1, 8)
    assert softbellman.sentence_bleu(tokens, tokens).item() == 1.0
    assert "multi30k" in read_sources()
    print("softbellman", softbellman.__version__, "works with torch", torch.__version__)


if __name__ == "__main__":
    main()

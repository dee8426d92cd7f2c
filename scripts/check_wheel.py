"""Whether an installed wheel works: one loss with its gradient and one payoff from the native core, against plain PyTorch."""

from __future__ import annotations

import torch

import softbellman


def main() -> None:
    q = torch.randn(3, 1000, requires_grad=True)
    value = softbellman.soft_value(q, tau=0.5)
    expected = 0.5 * torch.logsumexp(q / 0.5, -1)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value.sum(), q)
    torch.testing.assert_close(gradient, torch.softmax(q.detach() / 0.5, -1))

    tokens = torch.arange(4, 12).view(1, 8)
    assert softbellman.sentence_bleu(tokens, tokens).item() == 1.0
    print("softbellman", softbellman.__version__, "works with torch", torch.__version__)


if __name__ == "__main__":
    main()

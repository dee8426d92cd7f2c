"""An algorithm of your own: maximum likelihood, then best-of-K self-training on an objective of this file.

Shows: a stage with its own settings, draws, payoff, objective and metrics, and the algorithm that has it. Of the K sequences
that the actor draws for each source, the one with the best payoff is learnt. A run takes seconds; its corpus is built in.

    python examples/own_algorithm.py [FOLDER]

The same on the command line: softbellman-train --algorithm ./examples/own_algorithm.py:algorithm --stages.best.samples 8
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import Tensor

from softbellman import load_run
from softbellman.config import load
from softbellman.data import Batch
from softbellman.losses import token_cross_entropy
from softbellman.objectives import Objective
from softbellman.training import (
    ActorObjective,
    Algorithm,
    Metric,
    Settings,
    StageSettings,
    StageSpec,
    run,
)
from softbellman.training.stages import Drawing

TINY = {
    "data.pairs": "300", "data.dev_pairs": "20", "data.test_pairs": "20", "device": "cpu", "keep_memory": "false",
    "model.embedding": "16", "model.hidden": "16", "model.attention_size": "16", "actor.schedule.max_updates": "10",
}  # fmt: skip


@dataclass(frozen=True)
class BestSettings(StageSettings):
    """Keys below `stages.best`, beside `optimizer` and `schedule`."""

    samples: int = 5
    """Sequences drawn for each source."""
    extra_length: int = 5
    """A sequence may be this much longer than its reference."""


def best_of(losses: Tensor, payoffs: Tensor) -> Objective:
    """Negative log-likelihood of each source's best sequence, mean over sources.

    Args:
        losses: of each sequence, `[B, K]`.
        payoffs: `[B, K]`.
    """
    best, place = payoffs.max(dim=1)
    chosen = losses.gather(1, place[:, None])  # (B, K) -> (B, 1)
    sums = {"best_payoff": best.sum(), "payoff": payoffs.sum(), "sources": torch.tensor(len(best))}
    return Objective(chosen.mean(), {**sums, "sequences": torch.tensor(payoffs.numel())})


class Best(ActorObjective):
    """The stage: draws sequences and hands their losses and payoffs to the objective."""

    name = "best"

    def __init__(self, parts: Any, settings: BestSettings) -> None:
        super().__init__(parts, settings)
        options = parts.draws(self.name, self.actor, settings.samples, settings.extra_length)
        self.drawing = Drawing(self.actor, **options)

    def objective(self, batch: Batch, step: int) -> Objective:
        """One draw: the same whenever the same update is repeated."""
        rollout = self.drawing.draw(batch, step)
        policy = self.drawing.policy(batch, rollout)  # [M, V], of the real tokens
        tokens = token_cross_entropy(policy, rollout.actions.flatten()[rollout.rows])  # [M]
        losses = tokens.new_zeros(rollout.mask.numel()).index_put((rollout.rows,), tokens)
        shape = len(batch), self.settings.samples
        losses = losses.view(*shape, -1).sum(-1)  # (N*T,) -> (B, K, T) -> (B, K)
        return best_of(losses, rollout.rewards.sum(-1).view(shape))


BEST = StageSpec(
    "best",
    Best,
    label="best of K",
    settings=BestSettings,
    reads=("payoff", "credit"),
    metrics={"best_payoff": Metric("sources", "payoff, in tokens")},
)
algorithm = Algorithm("best of K", ("actor", BEST))


def main(folder: Path) -> None:
    """Trains, then loads the actor of the last stage."""
    mine = {"algorithm": f"{__file__}:algorithm", "output": str(folder / "run")}
    mine |= {"stages.best.samples": "4", "stages.best.schedule.max_updates": "10", "payoff.metric": "rouge_l"}
    result = run(load(Settings, overrides={**TINY, **mine}.items()))
    for row in result.rows:
        print(f"{row.system}: test BLEU {row.test.score:.2f}")
    print(load_run(result.folder, "best-last").translate(["der hund sieht die katze"])[0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))

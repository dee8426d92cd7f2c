"""A policy that decodes with an eye on what a sentence will be worth: `log p + gamma Q`.

Notation: B sources, K rows per source, N = B*K rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softbellman.decoding.stepwise import LastScore, PrefixState, StepwiseModel, as_stepwise
from softbellman.decoding.wrappers import JointState


class Guided:
    """Scores of prefixes, `log p(y_1..t | x) + gamma Q(y_<t, y_t)`: searched as `LastScore(Guided(...), comparable=True)`.

    After Li, Monroe and Jurafsky, "Learning to Decode for Future Success", 2017. Q is the payoff that the whole sentence is
    expected to have, so that it stands beside the log-probability of the prefix and is not added up.

    Args:
        actor: has `begin` and `step`, or maps (source, prefix) to logits.
        values: the same, of action values Q.
        gamma: weight of Q, nats per unit of the payoff; a tensor is read at each step.
        forbidden: ids left out before probabilities are computed; they must be those that are never decoded.
    """

    def __init__(
        self,
        actor: nn.Module | StepwiseModel,
        values: nn.Module | StepwiseModel,
        *,
        gamma: float | Tensor,
        forbidden: Sequence[int] = (),
    ) -> None:
        self.parts = (actor,)
        self.gamma = gamma
        self._models = as_stepwise(actor), as_stepwise(values)
        self._forbidden = list(forbidden)

    def begin(self, source: Tensor) -> JointState:
        """The states of B rows before the start token, for `source` [B, ...]."""
        numbers = torch.arange(len(source), device=source.device)[:, None]  # stand for the sources
        nothing = torch.empty(len(source), 0, dtype=torch.float64, device=source.device)
        states = (model.begin(source) for model in self._models)
        return JointState((*states, PrefixState(numbers, nothing)))

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, JointState]:
        """Read one token per row: [N] -> scores [N, V] of the prefixes that each next token makes, and the new state."""
        acting, valuing, (numbers, rows) = state.members
        (actor, values) = self._models
        logits, acting = actor.step(tokens, acting)
        q, valuing = values.step(tokens, valuing)
        wide = logits.double()
        if self._forbidden:
            wide = wide.index_fill(1, torch.tensor(self._forbidden, device=wide.device), -math.inf)
        log_probs = wide.log_softmax(dim=1)
        if rows.shape[1]:  # of the prefix that each row has read, [N, V] one token ago
            log_probs = log_probs + rows.gather(1, tokens[:, None])
        scores = log_probs + self.gamma * q.double()
        return scores, JointState((acting, valuing, PrefixState(numbers, log_probs)))


class ActionValue(nn.Module):
    """A network of action values that reads the source, and the weight with which decoding listens to it.

    Args:
        network: maps (source, prefix) to values `[N, T, V]`.

    Attributes:
        gamma: a buffer, so that it is kept with the weights.
    """

    gamma: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("gamma", torch.zeros((), dtype=torch.float64))

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """Values of all next tokens: `[B, ...]`, `[N, T]` -> `[N, T, V]`."""
        values: Tensor = self.network(source, prefix)
        return values

    def guide(self, actor: nn.Module | StepwiseModel, *, forbidden: Sequence[int] = ()) -> LastScore:
        """What beam search decodes with; `forbidden` as for `Guided`."""
        return LastScore(Guided(actor, self.network, gamma=self.gamma, forbidden=forbidden), comparable=True)

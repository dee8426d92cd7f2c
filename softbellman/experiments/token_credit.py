"""The credit of every token of a hypothesis: reward, value, advantage, entropy, and what oracles would have wanted.

All numbers are computed in float64 from the networks' outputs.

Notation: T tokens of a hypothesis (its end included), V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softbellman.data import Batch, Codec, Examples, collate
from softbellman.losses import policy_value
from softbellman.oracle import EditDistanceOracle, maximal_actions, target_distribution
from softbellman.payoffs.payoff import Payoff
from softbellman.training.settings import Settings
from softbellman.training.task import Task
from softbellman.training.trained import TrainedActor, TrainedCritic, TrainedOracle

"""Tokens that no hypothesis is made of."""

MOST_WANTED = 3
"""Best tokens of an oracle that are named; where there are more, only how many there are is said."""


@dataclass(frozen=True)
class TokenCredit:
    """One token `y_t` of a hypothesis in its state `y_<t`; None where a run has no such party, or a number is infinite.

    Attributes:
        token: as it is spelt.
        probability: `pi(y_t | y_<t)`, forbidden tokens at 0.
        reward: `r_t = R(y_1..t) - R(y_1..t-1)`, Eq. (13), tokens.
        q: the critic's `Q(y_<t, y_t)`, tokens.
        value: `V(y_<t) = sum_w pi(w) Q(y_<t, w) + tau H(pi)`, tokens.
        advantage: `Q(y_<t, y_t) - tau log pi(y_t) - V(y_<t)`, tokens: Eq. (20) raises the token's logit where it is above 0.
        entropy: `H(pi(. | y_<t))`, nats.
        oracle_q: payoff still to come after the token under the edit distance, at best, tokens.
        oracle_target: probability of the token under the exact oracle's `softmax(Q / tau)`.
        oracle_wants: the tokens that begin a best completion.
        learnt_q, learnt_target, learnt_wants: the same of the run's learnt oracle, whose best token has the largest Q.
    """

    token: str
    probability: float
    reward: float
    q: float | None
    value: float | None
    advantage: float | None
    entropy: float
    oracle_q: float | None
    oracle_target: float
    oracle_wants: str
    learnt_q: float | None = None
    learnt_target: float | None = None
    learnt_wants: str | None = None


@dataclass(frozen=True)
class CreditedHypothesis:
    """A hypothesis, its tokens' credit, and its payoff: the sum of the rewards, tokens, and the plain score of 0 to 1."""

    title: str
    tokens: tuple[TokenCredit, ...]
    payoff: float
    score: float


@dataclass(frozen=True)
class CreditedSentence:
    """A sentence or an image, and its hypotheses.

    Attributes:
        name: such as `test 17`.
        source: the source text, or the image's name.
        references: as evaluation compares them; the first is the one that critic and oracles read.
        scored: how many of them, from the first on, the payoff compares with.
        hypotheses: what is judged.
        photo: Pillow's image of the source, where there is one.
    """

    name: str
    source: str
    references: tuple[str, ...]
    scored: int
    hypotheses: tuple[CreditedHypothesis, ...]
    photo: Any = None

    def as_record(self) -> dict[str, Any]:
        """As plain values for JSON, without the photograph."""
        return {
            "name": self.name,
            "source": self.source,
            "references": list(self.references),
            "scored_references": self.scored,
            "hypotheses": [asdict(hypothesis) for hypothesis in self.hypotheses],
        }


@dataclass(frozen=True)
class CreditedRun:
    """What is judged, and by whom.

    Attributes:
        actor, critic, oracle: the networks; a run may have no critic and no learnt oracle.
        task: data of the run.
        payoff: the run's.
        oracle_tau: temperature of the exact oracle's targets, tokens.
        facts: the above in words, by name.
    """

    actor: TrainedActor
    critic: TrainedCritic | None
    oracle: TrainedOracle | None
    task: Task
    payoff: Payoff
    oracle_tau: float
    facts: dict[str, str]

    @property
    def settings(self) -> Settings:
        """Of the run."""
        return self.actor.settings


def credit_hypothesis(
    run: CreditedRun, corpus: Examples, index: int, title: str, actions: list[int]
) -> CreditedHypothesis:
    """Judge one hypothesis.

    Args:
        run: networks, payoff and temperatures.
        corpus: where the source and its references are.
        index: of the source.
        title: of the hypothesis.
        actions: its tokens, the end included where it has one, at least one.
    """
    how = run.settings.payoff
    batch = collate(corpus, [(index, 0)], references=how.references, reads=how.reads)
    special = batch.special
    prefix, tokens = torch.tensor([[special.bos, *actions[:-1]]]), torch.tensor(actions)
    logits = _ask(run.actor.model, batch.source, prefix)
    if run.settings.credit.forbid_special:
        logits[:, list(special.never)] = -torch.inf
    log_policy = logits.log_softmax(-1)
    taken = log_policy.gather(1, tokens[:, None]).squeeze(1)  # (T,)
    q, critic = None, run.critic
    if critic is not None:
        q = _ask(critic.model, batch.critic_source, prefix)
    tau = 0.0 if critic is None else critic.tau
    values = policy_value(logits, torch.zeros_like(logits) if q is None else q, tau=tau)
    credit: dict[str, list[Any]] = {
        "token": [run.actor.target_codec.vocabulary.tokens[token] for token in actions],
        "probability": taken.exp().tolist(),
        "reward": _rewards(run, batch, tokens, scaled=True).tolist(),
        "entropy": values.entropy.tolist(),
        **_exact_oracle(run, corpus.references[index][0], actions),
    }
    if q is None:
        credit |= {name: [None] * len(actions) for name in ("q", "value", "advantage")}
    else:
        chosen = q.gather(1, tokens[:, None]).squeeze(1)
        bonus = tau * taken if tau else torch.zeros_like(taken)
        credit |= {
            "q": chosen.tolist(),
            "value": values.value.tolist(),
            "advantage": _finite(chosen - bonus - values.value),
        }
    if run.oracle is not None:
        credit |= _learnt_oracle(run.oracle, _ask(run.oracle.model, batch.critic_source, prefix), tokens)
    rows = zip(*credit.values(), strict=True)
    return CreditedHypothesis(
        title,
        tuple(TokenCredit(**dict(zip(credit, row, strict=True))) for row in rows),
        payoff=sum(credit["reward"]),
        score=float(_rewards(run, batch, tokens, scaled=False).sum()),
    )


def _ask(model: nn.Module, source: Tensor, prefix: Tensor) -> Tensor:
    """What a network says in the states of one hypothesis, float64, `[T, V]`."""
    place = next(model.parameters()).device
    with torch.no_grad():
        said: Tensor = model(source.to(place), prefix.to(place))
    return said[0].double().cpu()  # (1, T, V) -> (T, V)


def _rewards(run: CreditedRun, batch: Batch, tokens: Tensor, *, scaled: bool) -> Tensor:
    """`r_t` of one hypothesis, float64, `[T]`."""
    return run.payoff.rewards(
        tokens.view(1, 1, -1),
        batch.references,
        hypothesis_lengths=torch.tensor([[len(tokens)]]),
        reference_lengths=batch.reference_lengths,
        scaled=scaled,
        dtype=torch.float64,
    ).view(-1)


def _exact_oracle(run: CreditedRun, reference: list[int], actions: list[int]) -> dict[str, list[Any]]:
    """The optimal completion values of the edit distance along a hypothesis."""
    codec = run.actor.target_codec
    special = codec.special
    oracle = EditDistanceOracle(
        reference, vocabulary=len(codec), eos_id=special.eos, tau=run.oracle_tau, special_ids=special.never
    )
    body = actions[:-1] if actions[-1] == special.eos else actions
    q = oracle.along(body)[: len(actions)]  # [T, V]
    tokens = torch.tensor(actions)[:, None]
    return {
        "oracle_q": _finite(q.gather(1, tokens).squeeze(1)),
        "oracle_target": target_distribution(q, run.oracle_tau).gather(1, tokens).squeeze(1).tolist(),
        "oracle_wants": [_wanted(row, codec) for row in q],
    }


def _learnt_oracle(oracle: TrainedOracle, q: Tensor, tokens: Tensor) -> dict[str, list[Any]]:
    q[:, list(oracle.target_codec.special.never)] = -torch.inf
    chosen = tokens[:, None]
    return {
        "learnt_q": _finite(q.gather(1, chosen).squeeze(1)),
        "learnt_target": target_distribution(q, oracle.tau).gather(1, chosen).squeeze(1).tolist(),
        "learnt_wants": [_wanted(row, oracle.target_codec) for row in q],
    }


def _wanted(q: Tensor, codec: Codec) -> str:
    """The tokens of the largest value, in words."""
    best = (maximal_actions(q) == 0).nonzero().squeeze(1).tolist()
    if len(best) > MOST_WANTED:
        return f"any of {len(best)}"
    return " / ".join(codec.vocabulary.tokens[token] for token in best)


def _finite(numbers: Tensor) -> list[float | None]:
    return [number if abs(number) < float("inf") else None for number in numbers.tolist()]

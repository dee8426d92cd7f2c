"""RAML, VAML and ERAC for encoder-decoder models, inside the trainer of transformers.

Notation: B sources, K sequences a source, N = B*K, T steps, M real tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import get_last_checkpoint

from softbellman.core.head import Head, scaled
from softbellman.hf.critic import TargetNetwork
from softbellman.hf.forward import add_head
from softbellman.hf.layers import transformers_model
from softbellman.hf.metrics import NotedMetrics
from softbellman.hf.sequences import (
    CreditSettings,
    References,
    Sequences,
    drawn_sequences,
    references_of,
    weighted_edits,
)
from softbellman.losses import policy_value, td_targets
from softbellman.objectives import (
    Objective,
    actor_objective,
    critic_objective,
    maximum_likelihood,
    oracle_distillation,
    soft_q_objective,
    weighted_likelihood,
)

BESIDE = {"vaml": "oracle", "critic": "actor", "erac": "critic"}
"""The second network that an objective needs, by argument."""


class Seq2SeqCreditTrainer(NotedMetrics, Seq2SeqTrainer):
    """`Seq2SeqTrainer` with an objective of "From Credit Assignment to Entropy Regularization".

    With `credit.objective`, every loss a sum over tokens and a mean over sequences or sources:

    - "raml", Eq. (2): `-sum_k w_k sum_t log pi(y_t^k)` over K edited references, w the weights `exp(R / tau) / q`.
    - "soft_q", Eq. (16): the model becomes a Q-network. It reads the reference in place of the source, and its squared soft
      Bellman residual on edited references is lowered.
    - "vaml", Eq. (17): `-sum_k w_k sum_t sum_w softmax(Q / tau)(w) log pi(w)` with Q of `oracle`, a model trained by "soft_q".
    - "critic", Eq. (18)-(19): the model becomes a critic that reads the reference; `actor` draws and stays as it is.
      `reference_weight` times the reference's negative log-likelihood under `softmax(Q / reference_tau)` is added, here and in
      "erac".
    - "erac", Eq. (18)-(20): the model draws, and it and `critic` are trained together; `likelihood_weight` times the
      references' negative log-likelihood is added. `tau=0` is the plain actor-critic.

    Labels are the references; those of the collator of transformers will do. Padding, start and unknown tokens are never
    drawn nor edited in, and have probability 0 in "erac" and "critic". Evaluation gives an actor's plain loss of
    transformers, so that `eval_loss` compares objectives, and a Q-network's or critic's own.

    It overrides public methods alone: `__init__`, `compute_loss`, `train`, `log`.

    Args:
        arguments, options: those of `Seq2SeqTrainer`.
        credit: what to train by.
        oracle, actor, critic: the second network of "vaml", "critic", "erac": a model like the first, with its vocabulary.

    Raises:
        ValueError: a missing or needless second network; no processing_class; several processes or float16 with "erac"; a
            model whose decoder begins with a label, as that of mBART.

    Example:
        >>> credit = CreditSettings(objective="raml", tau=0.4)
        >>> trainer = Seq2SeqCreditTrainer(
        ...     model, args, data_collator=collator, train_dataset=data, processing_class=tokenizer, credit=credit
        ... )  # doctest: +SKIP
    """

    processing_class: Any

    def __init__(
        self,
        *arguments: Any,
        credit: CreditSettings,
        oracle: nn.Module | None = None,
        actor: nn.Module | None = None,
        critic: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.credit, self._draws = credit, 0
        self.target: TargetNetwork | None = None
        self.loss_is_scaled_for_ga = False  # a mean over the sequences of a batch
        needed = BESIDE.get(credit.objective)
        for name, network in (("oracle", oracle), ("actor", actor), ("critic", critic)):
            if (network is not None) != (name == needed):
                verb = "must be given" if name == needed else "must be None"
                raise ValueError(f"{name} {verb} with objective {credit.objective!r}")
        if self.processing_class is None:
            raise ValueError("processing_class must be given: it says which tokens are special")
        check_start(self.model)
        beside = oracle or actor or critic
        if beside is not None and credit.objective != "erac":
            beside.eval().requires_grad_(False)
        if credit.objective in ("critic", "erac"):
            self._add_target(beside)
        add_head(self.model)
        if beside is not None:
            beside.to(self.args.device)
            add_head(beside)
        self.beside: Any = beside

    def _add_target(self, beside: Any) -> None:
        own = self.credit.objective == "critic"
        if not own and (self.accelerator.num_processes > 1 or self.args.fp16):
            raise ValueError(
                "objective 'erac' needs one process and no float16: its critic has its own optimizer"
            )
        self.target = TargetNetwork(
            self.model if own else beside,
            speed=self.credit.target_speed,
            learning_rate=None if own else self.credit.critic_learning_rate,
        )
        self.add_callback(self.target)

    def train(self, resume_from_checkpoint: Any = None, *arguments: Any, **options: Any) -> Any:
        """As transformers, the critic continued too."""
        if resume_from_checkpoint and self.target is not None:
            found = resume_from_checkpoint
            folder = get_last_checkpoint(self.args.output_dir) if found is True else found
            if folder is None:
                raise ValueError(f"{self.args.output_dir} holds no checkpoint to resume from")
            self.target.load(folder)
        return super().train(resume_from_checkpoint, *arguments, **options)

    @property
    def special_ids(self) -> list[int]:
        """Padding, start, unknown and the other named special tokens but the end."""
        tokenizer, config = self.processing_class, self.model.config
        named = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
        found = {*named, config.pad_token_id, config.decoder_start_token_id} - {None, self._end}
        return sorted(found)

    @property
    def _end(self) -> int:
        return int(self.processing_class.eos_token_id)

    @property
    def _pad(self) -> int:
        return int(self.processing_class.pad_token_id)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective of a batch; in evaluation an actor's loss is that of transformers."""
        of_values = self.credit.objective in ("soft_q", "critic")
        if not self.model.training and not of_values:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        references = references_of(inputs["labels"], end=self._end, pad=self._pad)
        source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        reference = {"input_ids": references.source, "attention_mask": references.attended}
        loss: Tensor = getattr(self, f"_{self.credit.objective}")(model, source, reference, references)
        return (loss, {}) if return_outputs else loss

    def _edits(self, references: References) -> Sequences:
        started = self.state.global_step * self.args.gradient_accumulation_steps
        self._draws = max(self._draws, started) + 1  # a run that continues draws on
        return weighted_edits(
            references,
            self.credit,
            vocabulary=min(len(self.processing_class), self.model.config.vocab_size),
            end=self._end,
            special_ids=[*self.special_ids, self._end],
            seed=self.args.seed + self.accelerator.process_index,
            offset=self._draws,
        )

    def _along(self, network: Any, source: dict[str, Tensor], drawn: Sequences, on_head: Any) -> Any:
        """`on_head` of the head of a network that reads a source, along its K sequences."""
        return network(
            **source, labels=drawn.labels, rows=drawn.mask, repeats=self.credit.samples, on_head=on_head
        )

    def _raml(self, model: Any, source: Any, reference: Any, references: References) -> Tensor:
        drawn = self._edits(references)
        labels, weights = drawn.labels[drawn.mask], _spread(drawn)

        def objective(head: Head) -> Objective:
            return weighted_likelihood(head, labels, weights, sources=len(references.tokens))

        return self._finish(self._along(model, source, drawn, objective), drawn)

    def _vaml(self, model: Any, source: Any, reference: Any, references: References) -> Tensor:
        drawn = self._edits(references)
        with torch.no_grad():
            q = self._along(self.beside, reference, drawn, Head.detach)
        weights, sources = _spread(drawn), len(references.tokens)

        def objective(head: Head) -> Objective:
            return oracle_distillation(head, q, weights, sources=sources, tau=self.credit.tau)

        return self._finish(self._along(model, source, drawn, objective), drawn)

    def _soft_q(self, model: Any, source: Any, reference: Any, references: References) -> Tensor:
        drawn = self._edits(references)
        last = drawn.mask & ~nn.functional.pad(drawn.mask, (0, 1))[:, 1:]

        def objective(q: Head) -> Objective:
            return soft_q_objective(
                q,
                drawn.labels[drawn.mask],
                drawn.rewards[drawn.mask],
                sequences=len(drawn.mask),
                tau=self.credit.tau,
                terminal=last[drawn.mask],
            )

        return self._finish(self._along(model, reference, drawn, objective), drawn)

    def _critic(self, model: Any, source: Any, reference: Any, references: References) -> Tensor:
        drawn = self._draw(self.beside, source, references)
        with torch.no_grad():
            policy = self._forbid(self._along(self.beside, source, drawn, Head.detach))
            targets = self._targets(policy, reference, drawn)
        found = self._along(model, reference, drawn, lambda q: self._critic_objective(q, targets, drawn))
        return self._finish(found, drawn) + self._reading(model, reference, references)

    def _erac(self, model: Any, source: Any, reference: Any, references: References) -> Tensor:
        drawn = self._draw(self.accelerator.unwrap_model(model), source, references)
        self.beside.train()
        q: Head = self._along(self.beside, reference, drawn, lambda head: head)

        def objective(head: Head) -> tuple[Objective, Objective]:
            policy = self._forbid(head)
            with torch.no_grad():
                targets = self._targets(policy.detach(), reference, drawn)
            of_actor = actor_objective(policy, q.detach(), sequences=len(drawn.mask), tau=self.credit.tau)
            return of_actor, self._critic_objective(q, targets, drawn)

        of_actor, of_critic = self._along(model, source, drawn, objective)
        loss = self._finish(of_actor, drawn) + self._finish(of_critic, None, drawn.mask)
        if self.credit.likelihood_weight:
            loss = loss + self.credit.likelihood_weight * self._likelihood(model, source, references)
        return loss + self._reading(self.beside, reference, references)

    def _likelihood(
        self, model: Any, source: dict[str, Tensor], references: References, *, scale: float = 1.0
    ) -> Tensor:
        """Minus the log-likelihood of the references under a network's logits times `scale`."""
        real = references.attended.bool()
        labels = references.source

        def objective(head: Head) -> Objective:
            return maximum_likelihood(scaled(head, scale), labels[real], sequences=len(labels))

        found: Objective = model(**source, labels=labels, rows=real, on_head=objective)
        return found.loss

    def _reading(self, critic: Any, reference: dict[str, Tensor], references: References) -> Tensor | float:
        """What keeps the critic a reader, weighted; 0 without a weight."""
        weight = self.credit.reference_weight
        if not weight:
            return 0.0
        return weight * self._likelihood(critic, reference, references, scale=1 / self.credit.reference_tau)

    def _draw(self, actor: Any, source: dict[str, Tensor], references: References) -> Sequences:
        return drawn_sequences(
            actor,
            source,
            references,
            self.credit,
            end=self._end,
            pad=self._pad,
            start=actor.config.decoder_start_token_id,
            forbidden=self.special_ids,
        )

    def _forbid(self, policy: Head) -> Head:
        """The policy that draws: special tokens have probability 0."""
        bias = policy.hidden.new_zeros(policy.shape[-1]) if policy.bias is None else policy.bias
        forbidden = torch.tensor(self.special_ids, device=bias.device)
        return replace(policy, bias=bias.index_fill(0, forbidden, -torch.inf))

    def _targets(self, policy: Head, reference: dict[str, Tensor], drawn: Sequences) -> Tensor:
        """Eq. (19), `[M]`; nothing is bootstrapped behind the last token."""
        assert self.target is not None
        bootstrap = self._along(self.target.network, reference, drawn, Head.detach)
        values = torch.zeros_like(drawn.rewards)
        values[drawn.mask] = policy_value(policy, bootstrap, tau=self.credit.tau).value.to(values.dtype)
        return td_targets(drawn.rewards, values, drawn.mask)[drawn.mask]

    def _critic_objective(self, q: Head, targets: Tensor, drawn: Sequences) -> Objective:
        return critic_objective(
            q, drawn.labels[drawn.mask], targets, sequences=len(drawn.mask), smoothness=self.credit.smoothness
        )

    def _finish(self, found: Objective, drawn: Sequences | None, mask: Tensor | None = None) -> Tensor:
        """Note an objective's diagnostics as means over tokens and the payoff over sequences; give the loss."""
        if drawn is not None:
            mask = drawn.mask
            weights = drawn.rewards.new_ones(1, len(mask)) if drawn.weights is None else drawn.weights
            total = (drawn.rewards.sum(1).view(weights.shape) * weights).sum()
            self.note("credit/payoff", total, weights.sum())
        assert mask is not None
        count = found.diagnostics.get("weight", mask.sum())
        for name, value in found.diagnostics.items():
            if name != "weight":
                self.note(f"credit/{name}", value, count)
        return found.loss


def _spread(drawn: Sequences) -> Tensor:
    """The weight of the sequence of each real token, `[B, K] -> [M]`."""
    assert drawn.weights is not None
    return drawn.weights.view(-1, 1).expand(drawn.mask.shape)[drawn.mask]


def check_start(model: Any) -> None:
    """Raises ValueError where the decoder of a model does not begin with the start token of its settings.

    That of mBART begins with the last label, a language id. Edited and drawn sequences have none.
    """
    own = transformers_model(model)
    start = own.config.decoder_start_token_id
    labels = torch.tensor([[1, 1, 1]]) if start != 1 else torch.tensor([[2, 2, 2]])
    shift = getattr(own, "prepare_decoder_input_ids_from_labels", None)
    if start is None or (shift is not None and int(shift(labels)[0, 0]) != start):
        raise ValueError(
            f"{type(own).__name__} must begin its decoder with decoder_start_token_id, which is {start}; it begins with a label"
        )

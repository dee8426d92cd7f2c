"""TRL's GRPO with exact entropies from this package's operator, and with credit for every token where it is asked for.

Notation: N completions, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl.trainer import GRPOTrainer

from softbellman.hf.credit import (
    completion_regrets,
    group_advantages,
    rewards_to_go,
    soft_rewards_to_go,
)
from softbellman.hf.forward import IGNORED, add_token_statistics
from softbellman.hf.metrics import NotedMetrics
from softbellman.hf.rewards import RewardRecord, end_ids, reference_ids, with_one_end
from softbellman.hf.seams import TESTED, check_release, check_seam

CREDITS = ("sequence", "rewards_to_go", "soft_value", "completion")
BACKENDS = ("softbellman", "trl")

check_release()
check_seam(GRPOTrainer, "_generate_and_score_completions", ("self", "inputs"))


class CreditGRPOTrainer(NotedMetrics, GRPOTrainer):
    """`GRPOTrainer` with another name, exact differentiable entropies, and advantages of the shape `[B, T]`.

    With `credit="sequence"`, the default, advantages are TRL's. The others are those of `softbellman.hf.credit`:

    - "rewards_to_go": `x_t = sum_s>=t r_s`.
    - "soft_value": `x_t = r_t + sum_s>t (r_s + tau H_s) - tau log pi(y_t)`, for the payoff plus tau times the entropies.
    - "completion": `x_t = Q*(y_<t, y_t) - max_w Q*(y_<t, w)` of the edit distance to a reference. Rewards are only logged.

    Reward functions may return a list of numbers for each completion, one a token; one number counts for the last token.
    Losses, clipping, weights and `scale_rewards` are those of `GRPOConfig`.

    It overrides one private method of TRL, `_generate_and_score_completions`, which alone sees the columns of a row together
    with its tokens. Importing this class fails with a sentence where that method is another one.

    Args:
        arguments, options: those of `GRPOTrainer`.
        credit: how rewards become advantages.
        tau: of "soft_value", at least 0, in the unit of the rewards.
        reference_column: of "completion", texts or lists of token ids.
        backend: "softbellman" takes log-probabilities and entropies from `softbellman.token_statistics`, "trl" from TRL.

    Raises:
        ValueError: an unknown credit or backend; a setting that a credit or backend cannot honour, with what to do.
        TypeError: a reward model or an asynchronous reward function with a credit for tokens.

    Example:
        >>> reward = PrefixReward("bleu", tokenizer=tokenizer)  # doctest: +SKIP
        >>> trainer = CreditGRPOTrainer(
        ...     model, reward, args, data, processing_class=tokenizer, credit="rewards_to_go"
        ... )  # doctest: +SKIP
    """

    reward_funcs: list[Any]

    def __init__(
        self,
        *arguments: Any,
        credit: str = "sequence",
        tau: float = 0.0,
        reference_column: str = "reference",
        backend: str = "softbellman",
        **options: Any,
    ) -> None:
        for name, value, known in (("credit", credit, CREDITS), ("backend", backend, BACKENDS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if not tau >= 0.0:
            raise ValueError(f"tau must be at least 0, got {tau}")
        if tau and credit != "soft_value":
            raise ValueError(f"tau is read by credit='soft_value' alone, got {tau} with credit={credit!r}")
        super().__init__(*arguments, **options)
        self.credit, self.tau, self.reference_column, self.backend = credit, tau, reference_column, backend
        self._record = RewardRecord()
        if backend == "softbellman":
            self._take_over_heads()
        if credit != "sequence":
            self._refuse_for_tokens()
            self.reward_funcs = self._record.wrap(self.reward_funcs)

    def _take_over_heads(self) -> None:
        """Put this package's operator where TRL has its own."""
        for setting, reason in (("cast_lm_head_to_fp32", "float32 heads"), ("aux_loss_enabled", "experts")):
            if getattr(self.args, setting, False) or getattr(self, setting, False):
                raise ValueError(f"{reason} need TRL's own head: pass backend='trl'")
        with self.accelerator.autocast():  # as the reference model, which is prepared, computes its logits
            for model in (self.model, self.ref_model):
                if model is not None:
                    found = self.accelerator.unwrap_model(model)
                    add_token_statistics(found, temperature=self.temperature)

    def _refuse_for_tokens(self) -> None:
        """Refuse settings under which tokens cannot be told apart exactly."""
        wrong = None
        if self.multi_objective_aggregation != "sum_then_normalize":
            wrong = f"multi_objective_aggregation={self.multi_objective_aggregation!r}"
        elif self.environment_factories is not None:
            wrong = "environments, whose rewards are of whole completions"
        elif self.tools and self.credit != "rewards_to_go":
            wrong = "tools, whose tokens no policy drew; use credit='rewards_to_go'"
        if wrong is not None:
            raise ValueError(f"credit={self.credit!r} cannot be had with {wrong}, or with credit='sequence'")

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A generation batch of TRL, its advantages `[N, T]` where credit is for tokens."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.credit == "sequence":
            return output
        rewards, lengths, counted = self._record.take(self.reward_weights)
        drawn = self._record.completions
        kept = output["completion_ids"]
        if any(row[: len(ids)].tolist() != ids for row, ids in zip(kept, drawn, strict=True)):
            raise RuntimeError(
                f"rows came in another order than rewards, unlike in TRL {TESTED}: report this"
            )
        advantages = self._advantages(inputs, output, rewards, lengths, counted)
        self._note_spread(advantages, output["completion_mask"])
        output["advantages"] = advantages
        return output

    def _advantages(
        self,
        inputs: list[dict[str, Any]],
        output: dict[str, Any],
        rewards: Tensor,
        lengths: Tensor,
        counted: Tensor,
    ) -> Tensor:
        """Advantages of the rows here, `[N, T]`; means and deviations are taken over all processes."""
        kept = output["completion_ids"]
        place, width = kept.device, kept.shape[1]
        mask = torch.arange(width, device=place) < lengths.to(place)[:, None]
        rewards = torch.nn.functional.pad(rewards, (0, width - rewards.shape[1])).to(place)
        if self.credit == "rewards_to_go":
            values = rewards_to_go(rewards, mask)
        elif self.credit == "soft_value":
            log_probs, entropies = self._statistics(output, mask)
            values = soft_rewards_to_go(rewards, log_probs, entropies, mask, tau=self.tau)
        else:
            values = self._regrets(inputs, mask)
        totals = values.sum(1) if self.credit == "completion" else values[:, 0]
        everything = self.accelerator.pad_across_processes(values, dim=1)
        gathered = [self.accelerator.gather(part) for part in (everything, totals, counted.to(place))]
        group = self.num_generations if self.model.training else self.num_generations_eval
        advantages = group_advantages(*gathered, group=group, scale=self.scale_rewards)
        first = self.accelerator.process_index * len(kept)
        return advantages[first : first + len(kept), :width] * mask

    def _statistics(self, output: dict[str, Any], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[N, T]` of the policy that drew the tokens."""
        if "pixel_values" in output:
            raise ValueError("credit='soft_value' cannot be had with images; use credit='rewards_to_go'")
        prompts, tokens = output["prompt_ids"], output["completion_ids"]
        ids = torch.cat([prompts, tokens], 1)
        attended = torch.cat([output["prompt_mask"], mask.to(output["prompt_mask"].dtype)], 1)
        labels = torch.cat([prompts.new_full(prompts.shape, IGNORED), tokens.masked_fill(~mask, IGNORED)], 1)
        size = self.args.per_device_train_batch_size
        found = []
        with torch.no_grad(), self.accelerator.autocast():
            for first in range(0, len(ids), size):
                part = slice(first, first + size)
                said = self.model(
                    input_ids=ids[part],
                    attention_mask=attended[part],
                    labels=labels[part],
                    fused_lm_head=True,
                )
                found.append(torch.stack([said.log_probs, said.entropy])[..., -tokens.shape[1] :])
        log_probs, entropies = torch.cat(found, 1).float()
        return log_probs, entropies

    def _regrets(self, inputs: list[dict[str, Any]], mask: Tensor) -> Tensor:
        """The edits that each token made unavoidable, negated, `[N, T]`."""
        references = reference_ids(inputs, self.reference_column, self.processing_class)
        ends = end_ids(self.processing_class, self.accelerator.unwrap_model(self.model))
        drawn = [with_one_end(row, ends) for row in self._record.completions]
        values = torch.zeros(mask.shape)
        for row, found in zip(values, completion_regrets(drawn, references, eos_id=ends[0]), strict=True):
            row[: len(found)] = found
        return values.to(mask.device)

    def _note_spread(self, advantages: Tensor, mask: Tensor) -> None:
        """Note how large the advantages are, and how much they differ within completions."""
        real = mask.to(advantages.dtype)
        count = real.sum(1)
        mean = (advantages * real).sum(1) / count.clamp(min=1)
        squares = ((advantages - mean[:, None]).square() * real).sum(1)
        spread = (squares / count.clamp(min=1)).sqrt()
        self.note("credit/advantage_abs", (advantages.abs() * real).sum(), real.sum())
        self.note("credit/within_std", spread.sum(), (count > 0).sum())

"""Exact targets on the student's own samples: optimal completion distillation inside TRL.

Notation: N completions, T tokens, M real tokens, L tokens of a reference, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl.trainer import GRPOTrainer

from softbellman.core.head import Head
from softbellman.hf.forward import add_head, completion_rows, tempered
from softbellman.hf.rewards import end_ids, padded, reference_ids, token_ids
from softbellman.hf.seams import check_release, check_seam
from softbellman.objectives import known_distillation
from softbellman.oracle import maximal_actions
from softbellman.payoffs import optimal_completion_values, prefix_edit_distance

check_release()
check_seam(GRPOTrainer, "_generate_and_score_completions", ("self", "inputs"))


class CompletionTrainer(GRPOTrainer):
    """`GRPOTrainer`'s samples with a target for every token, and no policy gradient.

    Completions are drawn from the model, as in GRPO. Before each of their tokens the values of all next tokens are known,
    where one reference is right: `Q*(y_<t, w)`, minus the edits that are left if w comes next and the best completion after
    it, up to a constant (`softbellman.optimal_completion_values`). The loss is the mean over real tokens of

        -sum_w softmax(Q*(y_<t, .) / tau)(w) log pi(w | y_<t),

    at `tau = 0` with the uniform distribution over the best tokens. Its lowest value is the targets' entropy, not 0. A wrong
    token weighs `exp(-1 / tau)` against a best one and there are V of them: keep tau below `1 / (log V + 3)`.

    Reward functions are logged and change nothing; without any, minus the edit distance in tokens is logged. Of several end
    ids the first is taught. Padding, start and unknown tokens get the target 0.

    It overrides one private method of TRL, `_generate_and_score_completions`; see `CreditGRPOTrainer`.

    Args:
        model, reward_funcs, arguments, options: those of `GRPOTrainer`.
        tau: temperature of the targets, at least 0, in tokens.
        reference_column: texts or lists of token ids, without an end.

    Raises:
        ValueError: a temperature below 0; `beta`, `entropy_coef`, tools or images, which this loss has no place for.

    Example:
        >>> trainer = CompletionTrainer(
        ...     model, args=args, train_dataset=data, processing_class=tokenizer, tau=0.05
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        *arguments: Any,
        tau: float = 0.05,
        reference_column: str = "reference",
        **options: Any,
    ) -> None:
        if not tau >= 0.0:
            raise ValueError(f"tau must be at least 0, got {tau}")
        self.tau, self.reference_column = tau, reference_column
        super().__init__(model, reward_funcs or self.negative_distance, *arguments, **options)
        for setting in ("beta", "entropy_coef"):
            if getattr(self.args, setting):
                raise ValueError(f"{setting} must be 0: the loss of exact targets has no such term")
        if self.tools or self.environment_factories is not None:
            raise ValueError("tools must not be given: no policy drew the tokens that they write")
        add_head(self.model)

    def negative_distance(self, *, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        """`-d(y, y*)` of each completion, tokens."""
        ends, references = self._ends(), columns.get(self.reference_column)
        if references is None:
            raise ValueError(
                f"reference_column must name a column of the data set, got {self.reference_column!r}"
            )
        bodies = [[token for token in row if token not in ends] for row in completion_ids]
        written, lengths = padded([[0, *row] for row in bodies])  # with a first token no row is empty
        wanted, sizes = padded([[0, *token_ids(text, self.processing_class)] for text in references])
        distances = prefix_edit_distance(written, wanted, hypothesis_lengths=lengths, reference_lengths=sizes)
        return (-distances.gather(1, lengths[:, None] - 1)[:, 0]).tolist()

    def _ends(self) -> list[int]:
        return end_ids(self.processing_class, self.accelerator.unwrap_model(self.model))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A generation batch of TRL, with the references of its rows."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if "pixel_values" in output:
            raise ValueError("images must not be in the data: exact targets are for text")
        tokens, lengths = padded(reference_ids(inputs, self.reference_column, self.processing_class))
        place = output["completion_ids"].device
        return {**output, "reference_ids": tokens.to(place), "reference_lengths": lengths.to(place)}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The cross entropy summed over this process's tokens, divided by the tokens of the batch."""
        if return_outputs:
            raise ValueError("return_outputs must be False: no logits are kept")
        counted = inputs["completion_mask"] != 0  # (N, T)
        tokens = counted.sum().clamp(min=1)
        if self.model.training:
            # TRL's count is that of the generation batch; a window of accumulation is a part of it
            share = self.current_gradient_accumulation_steps / self.args.steps_per_generation
            tokens = inputs["num_items_in_batch"].clamp(min=1.0) * share / self.accelerator.num_processes
        total: Tensor = model(
            input_ids=torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1),
            attention_mask=torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1),
            rows=completion_rows(inputs["prompt_ids"], counted),
            on_head=lambda head: self._cross_entropy(tempered(head, self.temperature), inputs, counted),
        )
        loss: Tensor = total / tokens.to(total.device)
        return loss

    def _cross_entropy(self, head: Head, inputs: dict[str, Any], counted: Tensor) -> Tensor:
        """Summed over the real tokens, of which `head` has the logits `[M, V]`."""
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        end, *others = self._ends()
        never = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, *others}
        ids = inputs["completion_ids"]
        for other in others:
            ids = ids.masked_fill(ids == other, end)
        places = counted.flatten().nonzero()[:, 0]  # (M,)
        width = head.shape[-1]

        def values(part: slice) -> Tensor:
            q = optimal_completion_values(
                ids,
                inputs["reference_ids"],
                reference_lengths=inputs["reference_lengths"],
                vocabulary=width,
                eos_id=end,
                special_ids=sorted(token for token in never if token is not None),
                rows=places[part],
            )
            q[:, head.vocabulary or width :] = -torch.inf
            return q if self.tau else maximal_actions(q)

        return known_distillation(head, values, sources=1, tau=self.tau or 1.0).loss

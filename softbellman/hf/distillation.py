"""TRL's on-policy distillation with this package's divergence of two output layers.

Notation: B completions, P and C padded lengths of prompts and completions, M real tokens of completions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl.trainer import DistillationTrainer

from softbellman.core.head import Head
from softbellman.hf.forward import add_head, completion_rows, tempered
from softbellman.hf.metrics import NotedMetrics
from softbellman.hf.seams import check_release
from softbellman.losses import divergence, token_statistics

MULTIMODAL = (
    "pixel_values",
    "image_grid_thw",
    "pixel_attention_mask",
    "spatial_shapes",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""What a batch of TRL may hold for a model that reads images."""

check_release()


class OnPolicyDistillationTrainer(NotedMetrics, DistillationTrainer):
    """`DistillationTrainer` with another name: the same losses from `softbellman.divergence`.

    With teacher o and student p at the tokens that the student drew, both of `softmax(logits / temperature)`, the loss is the
    mean over real tokens of

    - `KL(o || p)` at `beta=0`, `KL(p || o)` at `beta=1` (TRL's default),
    - else `beta KL(o || m) + (1 - beta) KL(p || m)` with `m = beta o + (1 - beta) p`.

    Neither model's logits are stored: a chunk of rows exists at a time. Terms are at least 0 each, so small divergences keep
    their digits. Scales and caps of logits and LoRA on output layers count on both sides, as `head_of` has them. TRL refuses a
    `PeftModel` with LoRA there; a model of `peft.inject_adapter_in_model` it takes.

    It overrides public methods alone: `__init__`, `compute_loss`, `log`.

    Args:
        arguments, options: those of `DistillationTrainer`.
        log_entropy: whether to log the student's mean entropy as TRL does, for one more matmul a batch, without gradient.

    Raises:
        ValueError: a model whose logits no head expresses; see `verify_head`.

    Example:
        >>> trainer = OnPolicyDistillationTrainer(
        ...     student, teacher, args, data, processing_class=tokenizer
        ... )  # doctest: +SKIP
    """

    def __init__(self, *arguments: Any, log_entropy: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.log_entropy = log_entropy
        with self.accelerator.autocast():  # as the teacher, which is prepared, computes its logits
            for model in (self.model, self.teacher_model):
                add_head(self.accelerator.unwrap_model(model))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The divergence summed over this process's tokens, divided by the tokens of the batch."""
        counted = inputs["completion_mask"] * inputs.get("tool_mask", 1)  # (B, C)
        if self.model.training and inputs.get("num_items_in_batch") is not None:
            tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        else:
            tokens = counted.sum().clamp(min=1)
        total, entropy = self._divergence(model, inputs, completion_rows(inputs["prompt_ids"], counted))
        if self.log_entropy:
            self.note("entropy", entropy, counted.sum())
        loss = total / tokens.to(total.device)
        return (loss, None) if return_outputs else loss

    def _divergence(self, model: Any, inputs: dict[str, Any], rows: Tensor) -> tuple[Tensor, Tensor]:
        """The summed divergence at the positions `rows` [B, P + C], and the student's summed entropy."""
        given = {name: inputs[name] for name in MULTIMODAL if name in inputs}
        given["input_ids"] = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        given["attention_mask"] = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        self.teacher_model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            teacher: Head = self.teacher_model(**given, rows=rows, on_head=Head.detach)

        def compare(student: Head) -> tuple[Tensor, Tensor]:
            total = divergence(
                student,
                teacher,
                kind={0.0: "forward_kl", 1.0: "reverse_kl"}.get(self.args.beta, "jsd"),
                beta=self.args.beta if 0.0 < self.args.beta < 1.0 else 0.5,
                temperature=self.temperature,
                reduction="sum",
            )
            if not self.log_entropy:
                return total, total.detach()
            with torch.no_grad():
                (entropy,) = token_statistics(
                    tempered(student.detach(), self.temperature), None, outputs=("entropy",)
                )
            return total, entropy.sum()

        found: tuple[Tensor, Tensor] = model(**given, rows=rows, on_head=compare)
        return found

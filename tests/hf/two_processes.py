"""Run by two processes: TRL's trainers and ours, with groups of completions that both processes hold."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl.trainer import DistillationConfig, DistillationTrainer, GRPOConfig, GRPOTrainer
from trl_cases import common_settings, logged, prompts, tiny_causal, word_tokenizer

from softbellman.hf import CompletionTrainer, CreditGRPOTrainer, OnPolicyDistillationTrainer


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(set(row)) - 0.1 * row[0] for row in completion_ids]


def trained(kind: Any, config: Any, model: Any, **options: Any) -> dict[str, list[float]]:
    mine = {
        name: options.pop(name) for name in ("credit", "reward_funcs", "teacher_model") if name in options
    }
    settings = common_settings(
        Path(tempfile.mkdtemp()), max_steps=3, per_device_train_batch_size=2, **options
    )
    trainer = kind(
        model=model,
        args=config(**settings),
        train_dataset=Dataset.from_list(prompts(32)),
        processing_class=word_tokenizer(),
        **mine,
    )
    trainer.train()
    names = ("loss", "grad_norm", "entropy", "credit/within_std")
    return {name: logged(trainer, name) for name in names if logged(trainer, name)}


def main(path: str) -> None:
    equal_lengths = {"num_generations": 4, "generation_kwargs": {"min_new_tokens": 7}}
    found = {
        "trl": trained(GRPOTrainer, GRPOConfig, tiny_causal(), reward_funcs=reward, **equal_lengths),
        "sequence": trained(
            CreditGRPOTrainer, GRPOConfig, tiny_causal(), reward_funcs=reward, **equal_lengths
        ),
        "rewards_to_go": trained(
            CreditGRPOTrainer,
            GRPOConfig,
            tiny_causal(),
            reward_funcs=reward,
            credit="rewards_to_go",
            **equal_lengths,
        ),
        "completion": trained(CompletionTrainer, GRPOConfig, tiny_causal(), num_generations=4),
    }
    for name, kind in (
        ("trl_distillation", DistillationTrainer),
        ("distillation", OnPolicyDistillationTrainer),
    ):
        found[name] = trained(kind, DistillationConfig, tiny_causal(), teacher_model=tiny_causal(1))
    if torch.distributed.get_rank() == 0:
        Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])

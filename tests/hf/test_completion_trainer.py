"""`CompletionTrainer`: its loss against logits and targets in plain PyTorch, and what it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

pytest.importorskip("trl")
from datasets import Dataset
from trl.trainer import GRPOConfig
from trl_cases import EOS, common_settings, logged, prompts, tiny_causal, word_tokenizer

from softbellman.hf import CompletionTrainer
from softbellman.oracle import EditDistanceOracle, target_distribution

SPECIAL = [0, 2]  # padding and unknown


def trainer_of(folder: Path, model: Any = None, **options: Any) -> CompletionTrainer:
    mine = {
        name: options.pop(name) for name in ("tau", "reference_column", "reward_funcs") if name in options
    }
    rows = options.pop("rows", 12)
    return CompletionTrainer(
        model=model or tiny_causal(),
        args=GRPOConfig(**common_settings(folder, **{"num_generations": 4, **options})),
        train_dataset=Dataset.from_list(prompts(rows)),
        processing_class=word_tokenizer(),
        **mine,
    )


@pytest.mark.parametrize("tau", [0.0, 0.3])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_loss_is_the_cross_entropy_under_the_oracles_targets(
    tmp_path: Path, tau: float, temperature: float
) -> None:
    trainer = trainer_of(tmp_path, tau=tau, temperature=temperature)
    prompts_ids = torch.tensor([[3, 4], [0, 5]])
    completions = torch.tensor([[6, 7, 9, EOS], [8, 6, 5, 4]])  # the second was cut off
    mask = torch.ones_like(completions)
    mask[0, 0] = 0  # a token that does not count
    references, lengths = torch.tensor([[6, 8, 9], [7, 0, 0]]), torch.tensor([3, 1])
    batch = {
        "prompt_ids": prompts_ids,
        "prompt_mask": (prompts_ids != 0).long(),
        "completion_ids": completions,
        "completion_mask": mask,
        "reference_ids": references,
        "reference_lengths": lengths,
        "num_items_in_batch": torch.tensor(7.0),
    }
    model = trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    ids = torch.cat([prompts_ids, completions], 1)
    attended = torch.cat([batch["prompt_mask"], mask], 1)
    logits = model(input_ids=ids, attention_mask=attended).logits[:, 1:-1]
    log_policy = (logits / temperature).log_softmax(-1)
    wanted = torch.zeros(())
    for row, reference in enumerate(([6, 8, 9], [7])):
        oracle = EditDistanceOracle(reference, vocabulary=27, eos_id=EOS, tau=tau, special_ids=SPECIAL)
        for t in range(4):
            if mask[row, t]:
                target = target_distribution(oracle.q(completions[row, :t].tolist()), tau).float()
                wanted = wanted - torch.special.xlogy(target, log_policy[row, t].exp()).sum() / 7
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    wanted.backward()
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_model_learns_to_sort_its_prompts(tmp_path: Path) -> None:
    settings = {"max_steps": 60, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    trainer = trainer_of(tmp_path, tiny_causal(hidden=32), rows=4, tau=0.0, **settings)
    trainer.train()
    distance = logged(trainer, "rewards/negative_distance/mean")
    assert sum(distance[:5]) / 5 < -3.0 and sum(distance[-5:]) / 5 > -1.5


def test_references_stay_with_their_rows(tmp_path: Path) -> None:
    seen = []

    class Watched(CompletionTrainer):
        def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
            seen.append((inputs["prompt_ids"], inputs["reference_ids"], inputs["reference_lengths"]))
            return super().compute_loss(model, inputs, **options)

    trainer = Watched(
        model=tiny_causal(),
        args=GRPOConfig(
            **common_settings(tmp_path, num_generations=4, gradient_accumulation_steps=2, max_steps=1)
        ),
        train_dataset=Dataset.from_list(prompts()),
        processing_class=word_tokenizer(),
    )
    trainer.train()
    assert len(seen) == 2
    for rows in seen:
        for prompt, reference, length in zip(*rows, strict=True):
            assert sorted(prompt[prompt != 0].tolist()) == sorted(reference[:length].tolist())


def test_accumulated_batches_have_the_loss_of_one(tmp_path: Path) -> None:
    whole = trainer_of(tmp_path, max_steps=1, per_device_train_batch_size=16)
    whole.train()
    halves = trainer_of(tmp_path, max_steps=1, gradient_accumulation_steps=2)
    halves.train()
    assert logged(halves, "loss") == pytest.approx(logged(whole, "loss"), rel=1e-5)
    assert logged(halves, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-4)


def test_own_rewards_are_logged_and_evaluation_has_a_loss(tmp_path: Path) -> None:
    def length(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(row)) for row in completion_ids]

    trainer = trainer_of(tmp_path, reward_funcs=length, max_steps=1)
    trainer.train()
    transformers.set_seed(1)
    assert "rewards/length/mean" in trainer.state.log_history[0]
    assert trainer.evaluate(Dataset.from_list(prompts(4)))["eval_loss"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tau": -0.1}, "tau must be at least 0"),
        ({"entropy_coef": 0.1}, "entropy_coef must be 0"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trainer_of(tmp_path, **options)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'answer'"):
        trainer_of(tmp_path, reference_column="answer").train()

"""`OnPolicyDistillationTrainer` beside TRL's own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

pytest.importorskip("trl")
from datasets import Dataset
from trl.trainer import DistillationConfig, DistillationTrainer
from trl_cases import common_settings, logged, losses_of, prompts, tiny_causal, word_tokenizer

from softbellman.hf import OnPolicyDistillationTrainer


def trained(kind: Any, folder: Path, *, student: Any = None, teacher: Any = None, **options: Any) -> Any:
    mine = {name: options.pop(name) for name in ("log_entropy",) if name in options}
    trainer = kind(
        model=student or tiny_causal(0),
        teacher_model=teacher or tiny_causal(1, hidden=24, tied=False),
        args=DistillationConfig(**common_settings(folder, **options)),
        train_dataset=Dataset.from_list(prompts(32)),
        processing_class=word_tokenizer(),
        **mine,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 0.0},
        {"beta": 1.0, "gradient_accumulation_steps": 2},
        {"beta": 0.3, "temperature": 1.7},
        {"beta": 0.5, "bf16": True, "gradient_checkpointing": True},
    ],
    ids=["forward_kl", "reverse_kl", "jsd", "bfloat16"],
)
def test_five_updates_have_the_losses_of_trl(tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs = trained(DistillationTrainer, tmp_path, **settings)
    ours = trained(OnPolicyDistillationTrainer, tmp_path, **settings)
    assert len(losses_of(theirs)) == 5 and min(losses_of(theirs)) > 1e-3
    tolerance = 2e-2 if settings.get("bf16") else 1e-5
    for name in ("loss", "entropy", "grad_norm"):
        assert logged(ours, name) == pytest.approx(logged(theirs, name), rel=tolerance), name
    assert evaluated(ours) == pytest.approx(evaluated(theirs), rel=tolerance)


def evaluated(trainer: Any) -> float:
    transformers.set_seed(7)  # both draw the same completions
    return trainer.evaluate(Dataset.from_list(prompts(4)))["eval_loss"]


def test_lora_injected_into_the_students_output_layer_is_trained(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.LoraConfig(target_modules=["lm_head"], r=2)
    student = peft.inject_adapter_in_model(adapted, tiny_causal(0, tied=False))
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    trained(OnPolicyDistillationTrainer, tmp_path, student=student, log_entropy=False)
    changed = {
        name for name, parameter in student.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert sorted(name.split(".")[1] for name in changed) == ["lora_A", "lora_B"]


def test_a_capped_teacher_is_read_capped(tmp_path: Path) -> None:
    transformers.set_seed(2)
    config = transformers.Gemma2Config(
        vocab_size=27,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=2.0,
        initializer_range=1.0,
    )
    teacher = transformers.Gemma2ForCausalLM(config)
    trainer = OnPolicyDistillationTrainer(
        model=tiny_causal(0),
        teacher_model=teacher,
        args=DistillationConfig(**common_settings(tmp_path, beta=0.0)),
        train_dataset=Dataset.from_list(prompts(32)),
        processing_class=word_tokenizer(),
    )
    ids, mask = torch.randint(3, 27, (2, 6)), torch.ones(2, 6, dtype=torch.int64)
    batch = {
        "prompt_ids": ids[:, :3],
        "prompt_mask": mask[:, :3],
        "completion_ids": ids[:, 3:],
        "completion_mask": mask[:, 3:],
    }
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    student, wanted = (
        model(input_ids=ids).logits[:, 2:-1].log_softmax(-1) for model in (trainer.model, teacher)
    )
    exact = (wanted.exp() * (wanted - student)).sum(-1).mean()
    torch.testing.assert_close(loss, exact, rtol=1e-5, atol=1e-6)

"""Tiny models, a tokenizer and data for the trainers, made here: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

WORDS = [f"w{number}" for number in range(24)]
SPECIAL = ["<pad>", "<eos>", "<unk>"]
EOS = 1


def word_tokenizer() -> Any:
    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def tiny_causal(seed: int = 0, *, hidden: int = 16, tied: bool = True) -> Any:
    transformers.set_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=tied,
        eos_token_id=EOS,
        pad_token_id=0,
        initializer_range=0.3,
    )
    return transformers.Qwen3ForCausalLM(config)


def prompts(count: int = 12) -> list[dict[str, str]]:
    generator = torch.Generator().manual_seed(3)
    rows = []
    for _ in range(count):
        length = int(torch.randint(2, 5, (1,), generator=generator))
        chosen = torch.randint(len(WORDS), (length,), generator=generator).tolist()
        text = " ".join(WORDS[number] for number in chosen)
        rows.append({"prompt": text, "reference": " ".join(WORDS[number] for number in sorted(chosen))})
    return rows


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def common_settings(folder: Path, **changed: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 5,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "logging_strategy": "steps",
        "save_strategy": "no",
        "report_to": [],
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 8,
        "max_completion_length": 7,
        "disable_tqdm": True,
        "seed": 5,
    }
    return {**settings, **changed}

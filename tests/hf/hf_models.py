"""Small models of transformers made of configurations, with scales, caps and biases that show."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

VOCABULARY = 61
_COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_CAUSAL = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_SEQ2SEQ = {
    **_COMMON,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 0,
    "max_position_embeddings": 32,
    "dropout": 0.0,
}
_T5 = {
    **_COMMON,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 1,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_CAUSAL, "head_dim": 8}),
    "qwen3_tied": ("Qwen3Config", "Qwen3ForCausalLM", {**_CAUSAL, "head_dim": 8, "tie_word_embeddings": True}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _CAUSAL),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**_CAUSAL, "head_dim": 8, "final_logit_softcapping": 2.0}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {**_CAUSAL, "logits_scaling": 0.3}),
    "cohere": ("CohereConfig", "CohereForCausalLM", {**_CAUSAL, "logit_scale": 3.0}),
    "falcon_h1": (
        "FalconH1Config",
        "FalconH1ForCausalLM",
        {**_CAUSAL, "lm_head_multiplier": 3.0, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    ),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        "RecurrentGemmaForCausalLM",
        {**_CAUSAL, "lru_width": 32, "logits_soft_cap": 2.0, "block_types": ("recurrent", "attention")},
    ),
    "gptj": ("GPTJConfig", "GPTJForCausalLM", {**_COMMON, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    "marian": ("MarianConfig", "MarianMTModel", _SEQ2SEQ),
    "bart": ("BartConfig", "BartForConditionalGeneration", _SEQ2SEQ),
    "t5_tied": ("T5Config", "T5ForConditionalGeneration", {**_T5, "dropout_rate": 0.0}),
    "mt5": ("MT5Config", "MT5ForConditionalGeneration", {**_T5, "dropout_rate": 0.0}),
}  # fmt: skip
"""Configuration, class and settings of each."""


def make(name: str, **changes: Any) -> Any:
    """A model with random weights of a size that shows scales and caps, and a random `final_logits_bias`."""
    configuration, kind, settings = MODELS[name]
    torch.manual_seed(3)
    config = getattr(transformers, configuration)(**{**settings, **changes})
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        layer = model.get_output_embeddings()
        layer.weight.normal_(std=0.5)
        if layer.bias is not None:
            layer.bias.normal_()
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model.eval()


def batch(model: Any, *, rows: int = 3, length: int = 6) -> dict[str, Tensor]:
    """Inputs with padding, and labels of which some are -100."""
    draws = torch.Generator().manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=draws)
    mask = torch.ones_like(ids)
    mask[0, length - 2 :] = 0
    labels = torch.randint(3, VOCABULARY, (rows, length), generator=draws)
    if not model.config.is_encoder_decoder:
        labels = ids.clone()
    labels[0, length - 2 :] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

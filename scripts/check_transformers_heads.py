"""Builds the language models of the installed transformers small and asks `verify_head` about each.

    python scripts/check_transformers_heads.py [CLASS ...]

A line says which rule a class follows, or why it could not be built or follows none. A class of `softbellman.hf.known` that
does not follow its rule ends the script with 1.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from softbellman.hf import verify_head
from softbellman.hf.known import ARCHITECTURES

MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
)
LARGEST = 60_000_000
"""Parameters of a model that is built; sizes that are not known here may leave it large."""

# Names of sizes are those of many configurations; each takes what it has.
WIDTHS = "hidden_size d_model n_embd dim embed_dim emb_dim lru_width word_embed_proj_dim mamba_d_ssm"
INNER = "intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff n_inner ffn_hidden_size ffn_embed_dim"
HEADS = "num_attention_heads n_head num_heads encoder_attention_heads decoder_attention_heads attention_heads mamba_n_heads"
LAYERS = "num_hidden_layers n_layer num_layers n_layers"
ONCE = "encoder_layers decoder_layers num_decoder_layers n_group topk_group"
SMALL = (
    "head_dim d_kv mamba_d_head mamba_d_state state_size qk_rope_head_dim qk_nope_head_dim v_head_dim "
    "hidden_size_per_layer_input global_head_dim"
)
EXPERTS = "num_experts num_local_experts n_routed_experts"
SIZES: dict[str, Any] = {
    **dict.fromkeys(WIDTHS.split(), 32),
    **dict.fromkeys(INNER.split(), 48),
    **dict.fromkeys([*HEADS.split(), *EXPERTS.split(), "rotary_dim", "time_step_rank"], 4),
    **dict.fromkeys([*LAYERS.split(), "num_key_value_heads", "num_experts_per_tok"], 2),
    **dict.fromkeys(ONCE.split(), 1),
    **dict.fromkeys(SMALL.split(), 8),
    **dict.fromkeys(
        [
            "q_lora_rank",
            "kv_lora_rank",
            "moe_intermediate_size",
            "shared_intermediate_size",
            "sliding_window",
        ],
        16,
    ),
    **dict.fromkeys(["n_positions", "max_position_embeddings", "max_seq_len"], 64),
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input"], 50),
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_kv_shared_layers": 0},
}
SHOWING: dict[str, Any] = {
    "logits_scaling": 3.0,
    "logit_scale": 0.25,
    "final_logit_softcapping": 20.0,
    "logits_soft_cap": 20.0,
    "output_logit_soft_cap": 20.0,
    "lm_head_multiplier": 0.5,
    "output_multiplier": 0.3,
    "logits_mup_width_multiplier": 2.0,
    "unpadded_vocab_size": 45,
}
"""What changes logits, away from its neutral value."""

PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type")
PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder")
LEFT_OUT = (
    *((), ("moe_intermediate_size",), PER_LAYER, ("head_dim",), ("num_key_value_heads",)),
    *(("q_lora_rank", "kv_lora_rank"), ("rotary_dim",), ("head_dim", "num_key_value_heads")),
)
"""Settings to do without, one after the other, until a model can be built."""


def classes() -> Iterator[type]:
    """All language models that the auto classes of transformers know."""
    found = {}
    for mapping in MAPPINGS:
        for names in getattr(modeling_auto, mapping).values():
            for name in [names] if isinstance(names, str) else names:
                found[name] = getattr(transformers, name, None)
    yield from (kind for _, kind in sorted(found.items()) if kind is not None)


def settings(kind: type) -> dict[str, Any]:
    """The small sizes that a configuration has."""
    default = kind()
    parts = [name for name in PARTS if hasattr(getattr(default, name, None), "to_dict")]
    if parts:
        return {name: settings(type(getattr(default, name))) for name in parts}
    chosen = {}
    for name, value in {**SIZES, **SHOWING}.items():
        if name in vars(default) and not isinstance(getattr(kind, name, None), property):
            chosen[name] = value
    for name in PER_LAYER:
        layers = vars(default).get(name)
        if isinstance(layers, (list, tuple)) and layers:  # two layers, of two kinds where there are two
            chosen[name] = [layers[0], next((layer for layer in layers if layer != layers[0]), layers[0])]
    return chosen


def built(kind: Any) -> Any:
    """A small model with random buffers; the last error where none can be built."""
    chosen = settings(kind.config_class)
    last: Exception = RuntimeError("nothing was tried")
    for left_out in LEFT_OUT:
        try:
            config = kind.config_class(**{key: chosen[key] for key in chosen if key not in left_out})
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in kind(config).parameters())
            if size > LARGEST:
                raise RuntimeError(f"{size / 1e6:.0f} million parameters are too many here")
            model = kind(config).eval()
            ids = torch.tensor([[3, 4, 5]])
            decoder = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
            with torch.no_grad():
                model(input_ids=ids, **decoder)
        except Exception as error:
            last = error
            continue
        for buffer in model.buffers(recurse=False):
            if buffer.is_floating_point():
                buffer.normal_()
        return model
    raise last


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("classes", nargs="*", help="names of classes; all without any")
    wanted = set(parser.parse_args().classes)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    wrong = 0
    for kind in classes():
        if wanted and kind.__name__ not in wanted:
            continue
        torch.manual_seed(0)
        known = ARCHITECTURES.get(kind.__name__)
        try:
            model = built(kind)
        except Exception as error:
            print(
                f"{kind.__name__}: not built: {type(error).__name__}: {str(error)[:150]}".replace("\n", " ")
            )
            continue
        try:
            print(
                f"{kind.__name__}: {verify_head(model)}{'' if known else ' (not in the table)'}", flush=True
            )
        except (TypeError, ValueError) as error:
            print(f"{kind.__name__}: refused: {str(error)[:150]}", flush=True)
            wrong += known is not None
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

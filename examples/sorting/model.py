"""A small causal language model of transformers, made from a configuration: its head, its samples.

Notation: N sequences, S tokens of a prompt, T steps of an answer, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
import transformers
from torch import Tensor

from softbellman import Head, sample_tokens
from sorting.task import END, PAD, SEPARATOR

_TAKEN = inspect.signature(transformers.Qwen3Model.forward).parameters
CACHE = "cache" if "cache" in _TAKEN else "past_key_values"
"""Argument of the model for keys and values; newer versions of transformers have another name."""


class Sizes(NamedTuple):
    """Of the model."""

    width: int = 64
    layers: int = 2
    heads: int = 4


class Drawn(NamedTuple):
    """Answers, each padded behind its end: `tokens` `[N, T]`, and `mask` `[N, T]`, True up to the end."""

    tokens: Tensor
    mask: Tensor


def new_model(vocabulary: int, sizes: Sizes, seed: int) -> transformers.Qwen3ForCausalLM:
    """A Qwen3 with random weights; nothing is downloaded."""
    transformers.set_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=sizes.width,
        intermediate_size=2 * sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        head_dim=sizes.width // sizes.heads,
        max_position_embeddings=64,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    return transformers.Qwen3ForCausalLM(config)


def head_before(model: transformers.Qwen3ForCausalLM, prompts: Tensor, tokens: Tensor) -> Head:
    """The head before each token of the answers: `[N, S]`, `[N, T]` -> logits `[N, T, V]`, never stored."""
    begun = torch.nn.functional.pad(prompts, (0, 1), value=SEPARATOR)
    read = torch.cat([begun, tokens[:, :-1]], 1)  # [N, S + T]
    hidden = model.model(input_ids=read, use_cache=False).last_hidden_state
    return Head(hidden[:, prompts.shape[1] :], model.lm_head.weight)


@torch.no_grad()
def draw(
    model: transformers.Qwen3ForCausalLM, prompts: Tensor, *, steps: int, seed: int, temperature: float = 1.0
) -> Drawn:
    """One answer to each prompt, a token at a time with the cache of keys and values. Temperature 0 takes the likeliest."""
    following = torch.nn.functional.pad(prompts, (0, 1), value=SEPARATOR)
    cache = transformers.DynamicCache(config=model.config)
    running = torch.ones(len(prompts), dtype=torch.bool)
    tokens, mask = [], []
    for step in range(steps):
        state = model.model(input_ids=following, use_cache=True, **{CACHE: cache}).last_hidden_state
        head = Head(state[:, -1], model.lm_head.weight)
        token = _choose(head, temperature, seed, step)
        tokens.append(token.where(running, PAD))
        mask.append(running)
        running = running & (token != END)
        following = tokens[-1][:, None]
    return Drawn(torch.stack(tokens, 1), torch.stack(mask, 1))


def _choose(head: Head, temperature: float, seed: int, step: int) -> Tensor:
    if temperature == 0.0:
        return head.logits().argmax(-1)
    return sample_tokens(head, temperature=temperature, seed=seed, offset=step).tokens

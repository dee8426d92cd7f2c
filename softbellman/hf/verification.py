"""Whether a model's own logits are those of its head: asked of the model, remembered for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core.head import Head
from softbellman.hf.architectures import Surroundings, candidates, remember
from softbellman.hf.heads import build
from softbellman.hf.hidden import hidden_of
from softbellman.hf.layers import output_layer, transformers_model

WANTED_SIZE = 100.0
"""Size of the logits that are compared: caps and scales show there, and not where a new model has logits of 0.1."""


@torch.no_grad()
def verify_head(model: Any, **inputs: Any) -> str:
    """Compare a head with the model's own logits, and let `head_of` take models of an architecture that it does not know.

    The model runs twice, without dropout. Its output layer is given larger hidden states, so that logits reach a size of 100.
    What was found holds for this model as long as it lives; a copy is asked again. Configurations must not change later.

    Args:
        model: as of `head_of`.
        **inputs: as of `hidden_of`; without any, three tokens.

    Returns:
        The name of the rule: how the model's logits follow from its output layer.

    Raises:
        ValueError: no known rule gives the model's own logits.
    """
    found = transformers_model(model)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        asked = inputs or _few_tokens(found)
        hidden = hidden_of(model, **asked)
        plain = build(found, hidden, Surroundings(casts=True)).logits().abs().max().item()
        factor = WANTED_SIZE / max(plain, 1e-30)
        heads = {name: build(found, hidden * factor, around) for name, around in candidates(found)}
        wanted = _logits_of(model, found, asked, factor)
    finally:
        for module, mode in training.items():
            module.training = mode
    for name, head in heads.items():
        if _same(head, wanted):
            remember(found, name)
            return name
    raise ValueError(
        f"the logits of {type(found).__name__} do not follow from its output layer by any rule that is known here: "
        f"{', '.join(heads)}; compute the loss of the logits themselves"
    )


def _few_tokens(model: Any) -> dict[str, Tensor]:
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 4, device=model.device)[None] % rows
    return {"input_ids": ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})}


def _logits_of(model: Any, found: Any, inputs: dict[str, Any], factor: float) -> Tensor:
    """The model's own logits when its output layer reads `factor` times what it is given."""
    hook = output_layer(found).register_forward_pre_hook(lambda layer, given: (given[0] * factor, *given[1:]))
    try:
        logits: Tensor = model(**inputs).logits
    finally:
        hook.remove()
    return logits


def _same(head: Head, wanted: Tensor) -> bool:
    logits = head.logits()
    tokens = logits.shape[-1] if head.vocabulary is None else head.vocabulary
    if wanted.shape != (*logits.shape[:-1], tokens) and wanted.shape != logits.shape:
        return False
    logits, wanted = logits[..., :tokens].double(), wanted[..., :tokens].double()
    rounding = max(1e-4, 4 * torch.finfo(head.dtype).eps)
    return bool((logits - wanted).abs().max() <= rounding * wanted.abs().max())

"""Settings of the networks: kind, sizes, what of their products is bfloat16."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from softbellman.config.text import shortened
from softbellman.core.objects import is_object_name
from softbellman.training.settings.common import Count, Fraction, NotNegative


@dataclass(frozen=True)
class ModelSettings:
    """The networks: their kind, and the sizes that actor, critic and oracle share."""

    kind: str = "lstm"
    """What the networks are. `lstm`: biLSTM encoder, attention, LSTM decoder. `transformer`: encoder and decoder of a
    Transformer (docs/models.md). `hf`: a model of Hugging Face transformers (needs the extra [hf]). `FILE.py:NAME` or
    `MODULE:NAME`: what that function returns, a model of your own (docs/extending.md)."""
    options: dict[str, Any] = field(default_factory=dict)
    """A model of your own: keys and values that its function gets."""
    path: str = ""
    """hf: folder of a sequence-to-sequence model and its tokenizer that `save_pretrained` of transformers wrote. Nothing is
    downloaded."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """hf: what the networks start with. `pretrained`: the weights in the folder; `random`: new ones, the folder gives sizes
    alone."""
    embedding: Count = 256
    """lstm: width of the word embeddings."""
    hidden: Count = 256
    """Width of the decoder; a Transformer has it throughout. Each direction of the LSTM encoder has half of it."""
    attention_size: Count = 256
    """lstm: width of the MLP attention's hidden layer."""
    layers: Count = 1
    """Layers of the encoder and of the decoder."""
    heads: Count = 4
    """transformer: heads of every attention, a divisor of `hidden`."""
    feedforward: Count = 1024
    """transformer: width of the feed-forward layers."""
    attention_dropout: Fraction = 0.0
    """transformer: dropout on the attention weights."""
    tied_output: bool = False
    """transformer: the actor's output layer multiplies by its target embeddings. Critic and oracle have one of their own, which
    the end of the warm-up scales."""
    tied_reader: bool = False
    """transformer: critic and oracle embed reference and prefix by one table."""
    input_feeding: bool = False
    """lstm: the attention output of one step joins the input of the next (actor and critic); an actor without attention has
    none."""
    init_range: NotNegative = 0.1
    """lstm: weights start uniform in [-init_range, init_range]."""
    bfloat16_products: Literal["none", "gradients", "output", "all"] = "none"
    """Which matmuls of an update have bfloat16 factors. `none`: all are float32. `gradients`: those of the output layers'
    gradient alone. `output`: the logits' and action values' as well, which take half the memory and are rounded to 8 bits.
    `all`: those of the other layers too, but not attention's scores and sums. Worth it on processors with avx512_bf16 or AMX
    (docs/performance.md)."""
    image_encoder: Literal["trained", "likelihood", "random"] = "trained"
    """scenes: what trains the convolutions between the pixels and the decoder. `trained`: every stage of the actor;
    `likelihood`: maximum likelihood alone, the later stages move the decoder; `random`: nothing, they stay as they start."""
    image_width: Count = 64
    """scenes: features at each position of the image encoder's grid, a multiple of 16."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not is_object_name(self.kind):
            raise ValueError(
                f"kind must be {', '.join(KINDS)} or the name of your own model, FILE.py:NAME, got {shortened(self.kind)}"
            )
        if self.kind == "hf" and not self.path:
            raise ValueError("path is empty, but kind is hf: name the folder of a model of transformers")
        if self.kind == "transformer" and (self.hidden % 2 or self.hidden % self.heads):
            raise ValueError(
                f"hidden must be even and a multiple of the {self.heads} heads, got {self.hidden}"
            )


KINDS = ("lstm", "transformer", "hf")
"""The models of the package, by the name that `model.kind` gives them."""

_OWNERS = {
    "lstm": ("embedding", "attention_size", "input_feeding", "init_range"),
    "hf": ("path", "weights"),
    "transformer": ("heads", "feedforward", "attention_dropout", "tied_output", "tied_reader"),
}
"""Keys that one kind alone has. A model of the user's is told those of lstm and transformer."""

_NOT_PRETRAINED = ("model.hidden", "model.layers", "model.bfloat16_products", "actor.embedding_dropout")
"""Keys that networks of other kinds than hf have; there the folder says what the model is."""


def unread_keys(kind: str) -> list[str]:
    """The dotted keys that networks of this `model.kind` do not read."""
    own = kind not in KINDS
    others = ["hf"] if own else [owner for owner in _OWNERS if owner != kind]
    found = [f"model.{key}" for owner in others for key in _OWNERS[owner]]
    found += ["model.image_encoder"] if own else ["model.options"]
    if kind != "lstm":
        found.append("cuda_graphs")  # the state must keep its size
    if kind in ("hf", "transformer"):
        found += ["actor.attention", "critic.attention", "oracle.attention"]
    return [*found, *_NOT_PRETRAINED] if kind == "hf" else found

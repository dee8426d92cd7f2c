"""Encoder-decoder models of Hugging Face transformers as this package's networks: whole, with an output layer, with a new one.

Notation: B sources, S source positions, K rows per source, N = B*K rows, T steps, H features, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class PretrainedState(NamedTuple):
    """The state of N rows: what the encoder said, and the keys and values of the steps so far.

    Attributes:
        memory: `[N, S, D]`.
        mask: True at positions that are no padding, `[N, S]`.
        cache: an `EncoderDecoderCache`, which is never written to once it is here; None before the first step.
        rows: K.
    """

    memory: Tensor
    mask: Tensor
    cache: Any = None
    rows: int = 1

    def repeat(self, count: int) -> PretrainedState:
        """Repeat every row `count` times in place of itself."""
        if count == 1:
            return self
        cache = fork(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(count)
        memory, mask = (part.repeat_interleave(count, dim=0) for part in self[:2])
        return PretrainedState(memory, mask, cache, self.rows * count)

    def reorder(self, index: Tensor) -> PretrainedState:
        """Take the rows `index` [N], each from the source of the row it replaces: its keys and values stay."""
        cache = fork(self.cache)
        if cache is not None:
            cache.self_attention_cache.batch_select_indices(index)
        return self._replace(cache=cache)

    def select(self, index: Tensor) -> PretrainedState:
        """Take any rows `index` [M]; each counts as a source of its own afterwards."""
        cache = fork(self.cache)
        if cache is not None:
            cache.batch_select_indices(index)
        return PretrainedState(self.memory.index_select(0, index), self.mask.index_select(0, index), cache)

    def select_sources(self, index: Tensor) -> PretrainedState:
        """Take the sources `index` [M] with all K rows of each."""
        own = torch.arange(self.rows, device=index.device)
        taken = index[:, None] * self.rows + own  # (M, K)
        return self.select(taken.flatten())._replace(rows=self.rows)


def fork(cache: Any) -> Any:
    """A cache with the same tensors whose changes the given one does not see: its layers put new tensors in their place."""
    if cache is None:
        return None

    def copied(part: Any) -> Any:
        part = copy.copy(part)
        part.layers = [copy.copy(layer) for layer in part.layers]
        return part

    return type(cache)(copied(cache.self_attention_cache), copied(cache.cross_attention_cache))


class PretrainedSeq2Seq(nn.Module):
    """A whole model of transformers: its own logits, whatever its output layer does.

    The attention mask of a source follows from `pad`. Parameters that a model ties are stored once, and sines and cosines of
    positions are not trained.

    Args:
        model: an `AutoModelForSeq2SeqLM`.
        pad: id of padding in sources.
        lead: what its decoder reads before the first id of a prefix.
    """

    def __init__(self, model: Any, *, pad: int, lead: Sequence[int] = ()) -> None:
        super().__init__()
        self.model = model
        self.pad, self.lead = pad, tuple(lead)
        self._cache_name = cache_name(model)
        store_tied_once(self)
        freeze_positions(model)

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """Logits `[N, T, V]` before each token; `[B, S]` and `[N, T]`."""
        return self.project(self._outputs(source, prefix))

    def project(self, features: Tensor) -> Tensor:
        """Logits; here what the model says are logits already."""
        return features

    def begin(self, source: Tensor) -> PretrainedState:
        """The state of B rows before the start token, for `source` [B, S]."""
        return PretrainedState(*self._encode(source))

    def step(self, tokens: Tensor, state: PretrainedState) -> tuple[Tensor, PretrainedState]:
        """Read one token per row: [N] -> logits [N, V] and the new state."""
        ids = tokens[:, None]
        if state.cache is None:
            ids = self._led(ids)
        found, cache = self._decode(ids, state, use_cache=True)
        if not hasattr(cache, "self_attention_cache"):
            raise TypeError(
                f"{type(self.model).__name__} keeps no EncoderDecoderCache of its steps; decode with StepwiseModule(model)"
            )
        return self.project(found[:, -1]), state._replace(cache=cache)

    def attention_weights(self, source: Tensor, prefix: Tensor) -> Tensor:
        """How much the last layer attends to each position of the source before each token: [N, T, S].

        Rows add up to 1. It is the mean over the heads, without dropout. Fused attention does not tell its weights, so
        a copy of the model that shares all tensors is asked, with the implementation `eager`.

        Args:
            source, prefix: as in `forward`.

        Raises:
            ValueError: the model has no eager attention, or does not return its cross-attentions.
        """
        asked = shared_copy(self._asked()).eval()
        state = self.begin(source).repeat(len(prefix) // max(len(source), 1))
        try:
            asked.set_attn_implementation("eager")
            found = self._ask(asked, self._led(prefix), state, use_cache=False, output_attentions=True)
        except (AttributeError, TypeError, ValueError) as error:
            raise _without_attention(asked, str(error)) from error
        layers = [layer for layer in found.cross_attentions or () if layer is not None]
        if not layers:
            raise _without_attention(asked, "it returns none")
        weights: Tensor = layers[-1].mean(dim=1)[:, len(self.lead) :]  # (N, heads, T, S) -> (N, T, S)
        return weights

    def _outputs(self, source: Tensor, prefix: Tensor) -> Tensor:
        """What the decoder says in each state, `[N, T, ...]`."""
        state = self.begin(source).repeat(len(prefix) // max(len(source), 1))
        found, _ = self._decode(self._led(prefix), state, use_cache=False)
        return found[:, len(self.lead) :]

    def _led(self, prefix: Tensor) -> Tensor:
        if not self.lead:
            return prefix
        return torch.cat([prefix.new_tensor(self.lead).expand(len(prefix), -1), prefix], dim=1)

    def _encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        mask = source != self.pad
        mask[:, :1] = True  # a source without any token is one of padding
        found = self._encoder()(input_ids=source, attention_mask=mask.long())
        return found.last_hidden_state, mask

    def _encoder(self) -> Any:
        return self.model.get_encoder()

    def _decode(self, ids: Tensor, state: PretrainedState, *, use_cache: bool) -> tuple[Tensor, Any]:
        """What follows the state at each of the ids, and the cache after them."""
        found = self._ask(self._asked(), ids, state, use_cache=use_cache)
        return found.logits, getattr(found, self._cache_name)

    def _asked(self) -> Any:
        """What reads the ids of a prefix."""
        return self.model

    def _ask(self, asked: Any, ids: Tensor, state: PretrainedState, **options: Any) -> Any:
        """All that `_asked`, or a copy of it, says after the state at each of the ids."""
        from transformers.modeling_outputs import BaseModelOutput

        return asked(
            encoder_outputs=BaseModelOutput(last_hidden_state=state.memory),
            attention_mask=state.mask.long(),
            decoder_input_ids=ids,
            **options,
            **self._past(state),
        )

    def _past(self, state: PretrainedState) -> dict[str, Any]:
        return {} if state.cache is None else {self._cache_name: fork(state.cache)}


class _OfDecoder(PretrainedSeq2Seq):
    """A model that is asked for what its decoder says, before the output layer."""

    scale = 1.0
    """Of the features before the output layer."""

    def features(self, source: Tensor, prefix: Tensor) -> Tensor:
        """What the output layer reads, `[N, T, H]`."""
        return self._outputs(source, prefix)

    def _asked(self) -> Any:
        return self.model.get_decoder()

    def _ask(self, asked: Any, ids: Tensor, state: PretrainedState, **options: Any) -> Any:
        return asked(
            input_ids=ids,
            encoder_hidden_states=state.memory,
            encoder_attention_mask=state.mask.long(),
            **options,
            **self._past(state),
        )

    def _decode(self, ids: Tensor, state: PretrainedState, *, use_cache: bool) -> tuple[Tensor, Any]:
        found = self._ask(self._asked(), ids, state, use_cache=use_cache)
        states = found.last_hidden_state
        return states if self.scale == 1.0 else states * self.scale, getattr(found, self._cache_name)


class LinearPretrained(_OfDecoder):
    """A model whose logits are linear in what its decoder says, so that real tokens alone are projected, or chunks of them.

    Args:
        model, pad, lead: as of `PretrainedSeq2Seq`.
        scale: factor of the features, as `find_scale` found it.
    """

    def __init__(self, model: Any, *, pad: int, lead: Sequence[int] = (), scale: float = 1.0) -> None:
        super().__init__(model, pad=pad, lead=lead)
        self.scale = scale

    def project(self, features: Tensor) -> Tensor:
        """Logits `[..., V]` of features `[..., H]`."""
        weight, bias = self.projection()
        return nn.functional.linear(features, weight, bias)

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight `[V, H]` and bias `[V]` of the output layer, whichever embedding it is tied to."""
        return output_layer(self.model)


class PretrainedReader(_OfDecoder):
    """Encoder and decoder of a model under a new output layer: a critic or an oracle, whose logits are action values.

    The new layer starts with normal weights of standard deviation 0.02 and biases 0.

    Args:
        model: an `AutoModelForSeq2SeqLM`, of which encoder and decoder are kept.
        pad, lead: as of `PretrainedSeq2Seq`.
        target_size: V.
    """

    def __init__(self, model: Any, *, target_size: int, pad: int, lead: Sequence[int] = ()) -> None:
        width = output_layer(model)[0].shape[1]
        super().__init__(_Body(model.get_encoder(), model.get_decoder()), pad=pad, lead=lead)
        self.output = nn.Linear(width, target_size)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def project(self, features: Tensor) -> Tensor:
        """Action values `[..., V]` of features `[..., H]`."""
        found: Tensor = self.output(features)
        return found

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight `[V, H]` and bias `[V]` of the output layer."""
        return self.output.weight, self.output.bias


class _Body(nn.Module):
    """Encoder and decoder without what stands on them."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def get_encoder(self) -> nn.Module:
        return self.encoder

    def get_decoder(self) -> nn.Module:
        return self.decoder


def shared_copy(module: nn.Module) -> Any:
    """A module of its own with a configuration of its own, and the same parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _without_attention(model: Any, reason: str) -> ValueError:
    return ValueError(
        f"{type(model).__name__} does not say what it attends to: cross-attentions of transformers need "
        f"attn_implementation eager and output_attentions ({' '.join(reason.split())})"
    )


def output_layer(model: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a model's output layer, 0 where it has none; the buffer `final_logits_bias` of BART is added.

    Raises:
        ValueError: the output layer is not linear.
    """
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"the output layer of {type(model).__name__} must be linear, got {type(layer).__name__}"
        )
    bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    added = getattr(model, "final_logits_bias", None)
    return layer.weight, bias if added is None else bias + added.view(-1)


@torch.no_grad()
def find_scale(model: Any, *, token: int) -> float | None:
    """The factor between the decoder's output and what the output layer reads; None where logits are not linear in it.

    It is found by asking: 1, or D^-0.5 as in T5 with tied embeddings, must give the model's own logits.

    Args:
        model: an `AutoModelForSeq2SeqLM`.
        token: an id that encoder and decoder can read.
    """
    training = model.training
    model.eval()
    try:
        ids = torch.full((1, 2), token, device=next(model.parameters()).device)
        wanted = model(input_ids=ids, decoder_input_ids=ids).logits
        asked = LinearPretrained(model, pad=-1)
        features = asked.features(ids, ids)
        weight, bias = output_layer(model)
        for scale in (1.0, features.shape[-1] ** -0.5):
            found = nn.functional.linear(features * scale, weight, bias)
            if found.shape == wanted.shape and bool(
                (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()
            ):
                return scale
    except (AttributeError, TypeError, ValueError):  # its decoder is asked in another way
        return None
    finally:
        model.train(training)
    return None


def cache_name(model: Any) -> str:
    """What the model calls the cache of earlier steps; it changed between versions."""
    known = inspect.signature(model.get_decoder().forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def freeze_positions(model: nn.Module) -> None:
    """Keep sines and cosines of positions, which Marian and Pegasus hold as parameters and do not save, as they are."""
    for part in model.modules():
        if "Sinusoidal" in type(part).__name__:
            part.requires_grad_(False)


def store_tied_once(module: nn.Module) -> None:
    """Has a module's state hold each tied parameter under its first name alone, and fills in the others when it is loaded."""
    module.register_state_dict_post_hook(_drop_tied)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(_fill_tied)  # type: ignore[no-untyped-call]


def _tied(module: nn.Module) -> dict[str, str]:
    """The further names of tied parameters, with the first name of each."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            found[name] = first[id(parameter)]
    return found


def _drop_tied(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in _tied(module):
        state.pop(prefix + name, None)


def _fill_tied(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, known in _tied(module).items():
        if prefix + known in state:
            state.setdefault(prefix + name, state[prefix + known])

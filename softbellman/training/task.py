"""What a run works on: the corpora, the codecs, and networks of the right sizes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from softbellman import build_info
from softbellman.data import (
    BOS,
    PAD,
    UNK,
    Codec,
    Corpus,
    Dataset,
    SentencePieceTokenizer,
    builtin_dataset,
    load_dataset,
    load_split,
)
from softbellman.models import AttentionSeq2Seq
from softbellman.training.settings import DataSettings, Settings


@dataclass(frozen=True)
class Task:
    """The three splits and the codec of each language."""

    train: Corpus
    dev: Corpus
    test: Corpus
    source_codec: Codec
    target_codec: Codec

    def digest(self) -> str:
        """Hash of what trains and selects: token ids of the training and validation splits, and the vocabularies."""
        digest = hashlib.sha256()
        for part in (self.train, self.dev):
            digest.update(repr((part.sources, part.references)).encode())
        for codec in (self.source_codec, self.target_codec):
            digest.update(repr(codec.vocabulary.tokens).encode())
        return digest.hexdigest()

    def forbidden(self, device: torch.device) -> Tensor:
        """Tokens that are never drawn or decoded: padding, BOS, UNK. Shape: ``[V]``, bool."""
        mask = torch.zeros(len(self.target_codec), dtype=torch.bool, device=device)
        mask[[PAD, BOS, UNK]] = True
        return mask


def load_task(settings: DataSettings) -> Task:
    """Read or generate the corpora and build the vocabularies from the training split."""
    if settings.kind == "builtin":
        data = builtin_dataset(
            seed=settings.seed,
            pairs=settings.pairs,
            dev_pairs=settings.dev_pairs,
            test_pairs=settings.test_pairs,
            difficulty=settings.difficulty,
            min_frequency=settings.min_frequency,
            max_length=settings.max_length,
        )
    else:
        data = _read_files(settings)
    return Task(
        train=data.train,
        dev=data.dev,
        test=data.test,
        source_codec=Codec(data.source_vocabulary, data.source_tokenizer),
        target_codec=Codec(data.target_vocabulary, data.target_tokenizer),
    )


def _read_files(settings: DataSettings) -> Dataset:
    if not settings.path:
        raise ValueError(
            "data.path is empty: name the folder that holds the parallel files (--data.path DIR)"
        )
    source_tokenizer = target_tokenizer = None
    if settings.tokenizer == "sentencepiece":
        text = load_split(
            settings.path, settings.train, source_language=settings.source, target_language=settings.target
        )
        source_tokenizer = SentencePieceTokenizer.train(
            text.sources, vocabulary_size=settings.vocabulary_size, origin=text.source_origin
        )
        target_tokenizer = SentencePieceTokenizer.train(
            [group[0] for group in text.references],
            vocabulary_size=settings.vocabulary_size,
            origin=text.target_origin,
        )
    return load_dataset(
        Path(settings.path),
        source_language=settings.source,
        target_language=settings.target,
        train=settings.train,
        dev=settings.dev,
        test=settings.test,
        min_frequency=settings.min_frequency,
        max_length=settings.max_length,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
    )


def build_actor(settings: Settings, *, source_size: int, target_size: int) -> AttentionSeq2Seq:
    """A new actor: reads the source."""
    own = settings.actor
    return _network(
        settings,
        source_size,
        target_size,
        attention=own.attention,
        dropout=own.dropout,
        embedding_dropout=own.embedding_dropout,
    )


def build_reader(
    settings: Settings, section: Literal["critic", "oracle"], *, target_size: int
) -> AttentionSeq2Seq:
    """A new network that reads the reference: the critic of AC and ERAC, or the oracle of VAML."""
    own = settings.critic if section == "critic" else settings.oracle
    return _network(settings, target_size, target_size, attention=own.attention, dropout=own.dropout)


def _network(settings: Settings, source_size: int, target_size: int, **own: Any) -> AttentionSeq2Seq:
    model = settings.model
    return AttentionSeq2Seq(
        source_size,
        target_size,
        embedding=model.embedding,
        hidden=model.hidden,
        attention_size=model.attention_size,
        layers=model.layers,
        input_feeding=model.input_feeding,
        pad=PAD,
        init_range=model.init_range,
        **own,
    )


def trainable(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU when torch sees one and the kernels were built for it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and build_info()["cuda"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} was asked for, but torch sees no GPU")
        if not build_info()["cuda"]:
            raise ValueError(f"device {name!r} was asked for, but softbellman was built without CUDA kernels")
    return device

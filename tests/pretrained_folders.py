"""Tiny random models of transformers with tokenisers of the built-in corpus, as `save_pretrained` writes them. No download."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softbellman.data import builtin_texts

transformers = pytest.importorskip(
    "transformers", reason="needs the extra [hf]: pip install 'softbellman[hf]'"
)
tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [hf]: pip install 'softbellman[hf]'")

SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
}


def corpus_lines() -> list[str]:
    """Lines of both sides of the corpus that tests train on."""
    train, _, _ = builtin_texts(seed=1, pairs=200, dev_pairs=24, test_pairs=20, difficulty=1.0)
    return [*train.sources, *(line for group in train.references for line in group)]


def spread(model: nn.Module) -> nn.Module:
    """The model with matrices that are large enough for its distributions to differ from the uniform one."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.2, generator=generator)
    return model.eval()


def word_tokenizer(specials: list[str], frame: str, **named: str) -> Any:
    """A tokeniser of words: `specials` have the first ids, `frame` is what it puts around a text."""
    words = sorted({word for line in corpus_lines() for word in line.split()})
    ids = {token: index for index, token in enumerate([*specials, *words])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token=named["unk_token"]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=frame, special_tokens=[(token, ids[token]) for token in specials if token in frame]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named)


def write_t5(folder: Path, **options: Any) -> Path:
    """Tied logits that are scaled, padding as decoder start, rows without a token, no position limit."""
    tokenizer = word_tokenizer(
        ["<pad>", "</s>", "<unk>"], "$A </s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    size = len(tokenizer) + 5
    config = transformers.T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2,
        decoder_start_token_id=0, **options,
    )  # fmt: skip
    return _write(folder, transformers.T5ForConditionalGeneration(config), tokenizer)


def write_bart(folder: Path) -> Path:
    """The end as decoder start, a start token in sources and targets, a bias of the logits."""
    tokenizer = word_tokenizer(
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>",
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
    config = transformers.BartConfig(vocab_size=len(tokenizer), **SIZES)
    model = transformers.BartForConditionalGeneration(config)
    model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(5))
    return _write(folder, model, tokenizer)


def write_marian(folder: Path) -> Path:
    """SentencePiece on both sides, padding with the last id and as decoder start, the end with id 0."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder.mkdir(parents=True, exist_ok=True)
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(corpus_lines()),
        model_writer=writer,
        vocab_size=120,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=writer.getvalue())
    pieces = [processor.IdToPiece(index) for index in range(processor.GetPieceSize())]
    words = ["</s>", "<unk>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(writer.getvalue())
    tokenizer = transformers.MarianTokenizer(
        source_spm=str(folder / "source.spm"),
        target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"),
    )
    pad = len(words) - 1
    config = transformers.MarianConfig(
        vocab_size=len(words), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0,
        static_position_embeddings=True, **SIZES,
    )  # fmt: skip
    return _write(folder, transformers.MarianMTModel(config), tokenizer)


def write_bert(folder: Path) -> Path:
    """Two BERTs: logits that are no linear function of what the decoder says."""
    tokenizer = word_tokenizer(
        ["<pad>", "<s>", "</s>", "<unk>"], "<s> $A </s>",
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    half = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 64,
    }  # fmt: skip
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.BertConfig(**half), transformers.BertConfig(**half)
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    return _write(folder, transformers.EncoderDecoderModel(config), tokenizer)


def write_t5_untied(folder: Path) -> Path:
    """An output layer of its own, logits that are not scaled."""
    return write_t5(folder, tie_word_embeddings=False, feed_forward_proj="gated-gelu")


LINEAR: dict[str, Callable[[Path], Path]] = {
    "marian": write_marian,
    "t5": write_t5,
    "t5-untied": write_t5_untied,
    "bart": write_bart,
}
"""Models whose logits are linear in what their decoder says."""

EVERY = {**LINEAR, "bert": write_bert}


def _write(folder: Path, model: nn.Module, tokenizer: Any) -> Path:
    spread(model).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder

"""What models of transformers attend to: transformers' own eager weights, pictures, words for unknown ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained_folders import EVERY, transformers

import softbellman
from softbellman.cli.main import main
from softbellman.config import load
from softbellman.data import HuggingFaceTokenizer
from softbellman.decoding import attention_of
from softbellman.models.huggingface import LinearPretrained, PretrainedSeq2Seq, find_scale, shared_copy
from softbellman.training import Settings, run


def network(folder: Path) -> tuple[PretrainedSeq2Seq, HuggingFaceTokenizer]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    tokenizer = HuggingFaceTokenizer.load(folder, side="target")
    pad, scale = tokenizer.vocabulary.special.pad, find_scale(model, token=tokenizer.vocabulary.special.eos)
    if scale is None:
        return PretrainedSeq2Seq(model, pad=pad, lead=tokenizer.lead).eval(), tokenizer
    return LinearPretrained(model, pad=pad, lead=tokenizer.lead, scale=scale).eval(), tokenizer


def sources_of(tokenizer: HuggingFaceTokenizer) -> torch.Tensor:
    special = tokenizer.vocabulary.special
    ordinary = [i for i in range(len(tokenizer.vocabulary)) if i not in {*special.never, special.eos}]
    return torch.tensor([ordinary[:5], [*ordinary[5:7], *[special.pad] * 3]])


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_those_of_transformers_with_eager_attention(name: str, tmp_path: Path) -> None:
    folder = EVERY[name](tmp_path / "model")
    model, tokenizer = network(folder)
    source = sources_of(tokenizer)
    tokens = source[:, :4].repeat_interleave(2, dim=0).clone()  # two hypotheses of each
    tokens[1::2] = tokens[1::2].flip(1)
    special = tokenizer.vocabulary.special
    found = attention_of(model, source, tokens, special=special)

    eager = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        str(folder), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    lead = torch.tensor([[*tokenizer.lead, special.bos]]).expand(4, -1)
    with torch.no_grad():
        wanted = eager(
            input_ids=source.repeat_interleave(2, dim=0),
            attention_mask=(source != special.pad).long().repeat_interleave(2, dim=0),
            decoder_input_ids=torch.cat([lead, tokens[:, :-1]], 1),
            output_attentions=True,
        ).cross_attentions[-1]  # fmt: skip
    assert found.shape == (4, 4, 5)
    torch.testing.assert_close(found, wanted.mean(1)[:, len(tokenizer.lead) :])
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 4))
    assert not found[2:, :, 2:].any() and found[:2, :, 2:].all()
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["marian", "t5", "bert"])
def test_asking_changes_nothing_in_the_model(name: str, tmp_path: Path) -> None:
    model, tokenizer = network(EVERY[name](tmp_path / "model"))
    source = sources_of(tokenizer)
    model.train()
    model.attention_weights(source, source)
    assert all(part.training for part in model.modules())
    model.eval()
    before = model(source, source)
    copied = shared_copy(model.model)
    assert [id(one) for one in copied.parameters()] == [id(one) for one in model.model.parameters()]
    assert copied.config is not model.model.config
    model.attention_weights(source, source)
    assert torch.equal(model(source, source), before)
    before.sum().backward()
    assert any(one.grad is not None for one in model.parameters())


def test_a_model_without_cross_attentions_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = network(EVERY["t5"](tmp_path / "model"))
    source = sources_of(tokenizer)

    def refuse(self: Any, implementation: str) -> None:
        raise ValueError(f"no {implementation} here")

    monkeypatch.setattr(type(model.model.get_decoder()), "set_attn_implementation", refuse)
    with pytest.raises(
        ValueError, match=r"T5Stack .* need attn_implementation eager and .* \(no eager here\)"
    ):
        model.attention_weights(source, source)
    monkeypatch.setattr(type(model.model.get_decoder()), "set_attn_implementation", lambda self, name: None)
    with pytest.raises(
        ValueError, match=r"need attn_implementation eager and output_attentions \(it returns none\)"
    ):
        model.attention_weights(source, source)


@pytest.mark.parametrize("name", ["marian", "t5", "bart"])
def test_a_run_draws_attention_and_replaces_unknown_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"algorithm": "mle", "model.kind": "hf", "model.path": str(EVERY[name](tmp_path / "model"))}
    words |= {
        "data.tokenizer": "hf",
        "data.pairs": "40",
        "data.dev_pairs": "4",
        "data.test_pairs": "4",
        "threads": "1",
    }
    words |= {
        "data.difficulty": "1",
        "actor.schedule.max_updates": "1",
        "evaluation.max_length": "9",
        "device": "cpu",
    }
    words |= {"keep_memory": "false", "output": str(tmp_path / "run"), "evaluation.beam": "2"}
    own = softbellman.load_run(run(load(Settings, overrides=words.items())).folder)
    sentence = "das pferd schläft ."
    (found,) = own.hypotheses([sentence], attention=True, coverage_penalty=0.2)[0]
    assert found.attention is not None and found.attention.shape == (len(found.tokens), len(found.source))
    torch.testing.assert_close(found.attention.sum(1), torch.ones(len(found.tokens)))

    picture = tmp_path / "attention.png"
    (tmp_path / "lines.txt").write_text(f"{sentence}\n", encoding="utf-8")
    with (tmp_path / "lines.txt").open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert main(["translate", str(tmp_path / "run"), "--attention", str(picture)]) == 0
    assert picture.stat().st_size > 1000

    unknown, project = own.target_codec.special.unknown, own.model.project

    def only_unknown(features: torch.Tensor) -> torch.Tensor:
        return project(features).index_fill(-1, torch.tensor([unknown]), 1e4)

    monkeypatch.setattr(own.model, "project", only_unknown)
    (replaced,) = own.hypotheses([sentence], replace_unknown=True, beam=1)[0]
    read = own.source_codec.tokenizer.spell(sentence)
    assert len(replaced.tokens) == 9 and set(replaced.tokens) <= set(read)  # neither start nor end nor <unk>
    assert not {"<unk>", "<s>", "</s>"} & {*read, *replaced.text.split()}
    if name != "marian":
        assert read == sentence.split() and set(replaced.text.split()) <= set(read)

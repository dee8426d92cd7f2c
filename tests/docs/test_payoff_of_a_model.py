"""docs/extending.md: the payoff of a sequence classifier trains, with stand-ins for the classifier and its tokenizer."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from pages import ROOT, blocks_of
from torch import nn

from softbellman.config import load
from softbellman.core.objects import UserCodeError
from softbellman.training import Settings, run
from softbellman.training.record import RunRecord

TINY = {
    **{
        "algorithm": "raml",
        "data.pairs": "100",
        "data.dev_pairs": "10",
        "data.test_pairs": "10",
        "keep_memory": "false",
    },
    **{f"model.{size}": "8" for size in ("embedding", "hidden", "attention_size")},
    **{f"{stage}.schedule.max_updates": "2" for stage in ("actor", "augmented")},
    "payoff.metric": "./my_judge.py:Judge",
    "output": "run",
}


class Tokenizer:
    """Two texts to the numbers of words that they share and that they have."""

    @classmethod
    def from_pretrained(cls, folder: str) -> Tokenizer:
        assert folder == "models/judge"
        return cls()

    def __call__(self, texts, others, *, padding, truncation, return_tensors):
        assert padding and truncation and return_tensors == "pt" and len(texts) == len(others)
        pairs = [(set(text.split()), set(other.split())) for text, other in zip(texts, others, strict=True)]
        return {"input_ids": torch.tensor([[len(own & other), len(own | other)] for own, other in pairs])}


class Classifier(nn.Module):
    """Logits of two labels from these numbers."""

    @classmethod
    def from_pretrained(cls, folder: str) -> Classifier:
        return cls()

    def forward(self, input_ids: torch.Tensor) -> types.SimpleNamespace:
        assert not self.training and torch.is_inference_mode_enabled()
        share = input_ids[:, 0] / input_ids[:, 1].clamp(min=1)
        return types.SimpleNamespace(logits=torch.stack([torch.zeros_like(share), 4 * share], dim=1))


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file in the working directory."""
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks_of(ROOT / "docs" / "extending.md") if block.file == "my_judge.py"]
    path = tmp_path / block.file
    path.write_text(block.text)
    return path


def test_it_trains(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("transformers")
    fake.AutoTokenizer, fake.AutoModelForSequenceClassification = Tokenizer, Classifier  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    result = run(load(Settings, overrides=TINY.items()))
    (facts,) = RunRecord.read(result.folder).objects
    assert facts["version"] == "judge 3" and facts["path"] == str(judge)


def test_a_package_that_is_missing_is_named(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        UserCodeError,
        match=r"my_judge\.py:Judge: making an instance raised ModuleNotFoundError: .*transformers",
    ):
        run(load(Settings, overrides=TINY.items()))
    assert not Path("run").exists()

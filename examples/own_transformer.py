"""A model of your own: PyTorch's Transformer as actor and critic of ERAC.

Shows: `model.kind` names a class of this file, `model.options` has its sizes. A run takes seconds; its corpus is built in.

    python examples/own_transformer.py [FOLDER]

The same on the command line: softbellman-train --model.kind ./examples/own_transformer.py:Translator
--model.options "{width: 32, layers: 2}"
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor, nn

from softbellman.config import load
from softbellman.training import ModelRequest, Settings, load_run, run

TINY = {
    "data.pairs": "200", "data.dev_pairs": "10", "data.test_pairs": "10", "device": "cpu", "keep_memory": "false",
    "evaluation.beam": "2", "evaluation.max_length": "20",
}  # fmt: skip
TINY |= {f"{stage}.schedule.max_updates": "3" for stage in ("actor", "critic", "joint")}


class Translator(nn.Module):
    """Maps (source, prefix) to logits before each token of the prefix, through features and a linear output layer."""

    def __init__(self, request: ModelRequest) -> None:
        super().__init__()
        width, layers = request.options["width"], request.options["layers"]
        self.pad = request.pad
        self.source = nn.Embedding(request.source_size, width)
        self.target = nn.Embedding(request.target_size, width)
        self.positions = nn.Embedding(512, width)
        self.network = nn.Transformer(width, 4, layers, layers, 4 * width, request.dropout, batch_first=True)
        self.output = nn.Linear(width, request.target_size)

    def features(self, source: Tensor, prefix: Tensor) -> Tensor:
        """[B, S], [N, T] -> [N, T, H]; N is K prefixes for each source, behind each other."""
        source = source.repeat_interleave(len(prefix) // len(source), dim=0)  # (B, S) -> (N, S)
        read, said = (
            table(tokens) + self.positions.weight[: tokens.shape[1]]
            for table, tokens in ((self.source, source), (self.target, prefix))
        )
        steps = prefix.shape[1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=prefix.device).triu(1)
        padding = source == self.pad
        found: Tensor = self.network(
            read, said, tgt_mask=later, src_key_padding_mask=padding, memory_key_padding_mask=padding
        )
        return found

    def project(self, features: Tensor) -> Tensor:
        """[..., H] -> [..., V]."""
        logits: Tensor = self.output(features)
        return logits

    def projection(self) -> tuple[Tensor, Tensor]:
        """Of a linear output layer; the losses then never hold all logits, and a critic's warm-up can scale it."""
        return self.output.weight, self.output.bias

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """Logits, [N, T, V]."""
        return self.project(self.features(source, prefix))


def main(folder: Path) -> None:
    """Trains, then loads the actor again."""
    mine = {"model.kind": f"{__file__}:Translator", "model.options": "{width: 32, layers: 2}"}
    result = run(load(Settings, overrides={**TINY, **mine, "output": str(folder / "run")}.items()))
    for row in result.rows:
        print(f"{row.system}: test BLEU {row.test.score:.2f}")
    actor = load_run(result.folder)
    parameters = sum(weight.numel() for weight in actor.model.parameters())
    print(f"{type(actor.model).__name__} with {parameters:,} parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))

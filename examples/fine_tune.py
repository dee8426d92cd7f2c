"""Tunes an encoder-decoder of Hugging Face transformers: maximum likelihood, then ERAC or minimum risk.

Shows: `model.kind: hf` with a model and a tokenizer made here, nothing is downloaded; scores in transformers before
and after; the export, for `from_pretrained`. It takes well under a minute; it needs the extra `softbellman[hf]`.

    python examples/fine_tune.py [FOLDER [erac|mrt]]

With a model of yours: softbellman-train --model.kind hf --model.path FOLDER --data.tokenizer hf
--data.kind FILE.py:NAME
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import sacrebleu
import tokenizers
import transformers

from softbellman.config import load
from softbellman.training import Settings, export_pretrained, load_run, run

ADJECTIVES = {"red": "rouge", "large": "grand", "old": "vieux", "quiet": "calme", "green": "vert"}
NOUNS = {"house": "maison", "cat": "chat", "river": "fleuve", "tree": "arbre", "boat": "bateau"}
VERBS = {"sees": "voit", "paints": "peint", "finds": "trouve", "likes": "aime"}
WORDS = ADJECTIVES | NOUNS | VERBS | {"the": "le"}

TUNING = {
    "data.kind": f"{__file__}:pairs", "data.tokenizer": "hf", "model.kind": "hf",
    "device": "cpu", "keep_memory": "false", "evaluation.beam": "1", "evaluation.max_length": "12",
    "actor.dropout": "0", "critic.dropout": "0",
    "actor.optimizer.learning_rate": "0.01", "actor.schedule.max_updates": "150",
    "warmup.optimizer.learning_rate": "0.01", "warmup.schedule.max_updates": "80",
    "critic.optimizer.learning_rate": "0.003", "critic.schedule.max_updates": "40",
    "joint.actor_optimizer.learning_rate": "0.001", "joint.critic_optimizer.learning_rate": "0.001",
    "joint.schedule.max_updates": "60", "credit.tau": "0.05", "credit.target_speed": "0.02",
    "sequence.optimizer.learning_rate": "0.001", "sequence.schedule.max_updates": "40", "sequence.alpha": "0.1",
}  # fmt: skip


def pairs(split: str) -> Iterator[tuple[str, str]]:
    """English into a French of 15 words, whose adjective follows its noun. Splits: train, val, test."""
    count = {"train": 2000, "val": 50, "test": 50}[split]
    drawn = random.Random(split)
    for _ in range(count):
        first, second = ([drawn.choice([*ADJECTIVES]), drawn.choice([*NOUNS])] for _ in range(2))
        verb = drawn.choice([*VERBS])
        said = ["the", *first, verb, "the", *second]
        meant = ["the", *first[::-1], verb, "the", *second[::-1]]
        yield " ".join(said), " ".join(WORDS[word] for word in meant)


def write_model(folder: Path) -> None:
    """A small T5 and a tokenizer of words, as `save_pretrained` writes them. Yours is larger, and trained."""
    spelt = ["<pad>", "</s>", "<unk>", *sorted({*WORDS, *WORDS.values()})]
    ids = {word: number for number, word in enumerate(spelt)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ids["</s>"])]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    transformers.set_seed(1)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(spelt), decoder_start_token_id=0, **sizes)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


def score(folder: Path) -> float:
    """BLEU of the test set, decoded by transformers alone."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sources, references = zip(*pairs("test"), strict=True)
    read = tokenizer(list(sources), return_tensors="pt", padding=True)
    kept = {name: read[name] for name in ("input_ids", "attention_mask")}
    written = model.generate(**kept, max_new_tokens=12, do_sample=False)
    lines = tokenizer.batch_decode(written, skip_special_tokens=True)
    return float(sacrebleu.corpus_bleu(lines, [list(references)], force=True).score)


def main(folder: Path, algorithm: str = "erac") -> None:
    """Makes a model, tunes it, exports it and reads it again."""
    write_model(folder / "model")
    print(f"before: test BLEU {score(folder / 'model'):.2f}")
    mine = {"algorithm": algorithm, "model.path": str(folder / "model"), "output": str(folder / "run")}
    result = run(load(Settings, overrides={**TUNING, **mine}.items()))
    for row in result.rows:
        print(f"{row.system}: test BLEU {row.test.score:.2f}")
    export_pretrained(load_run(result.folder), folder / "tuned")
    print(f"exported: test BLEU {score(folder / 'tuned'):.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()), *sys.argv[2:3])

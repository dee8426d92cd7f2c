"""Settings of what is learnt: data, decoding of the validation and test sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from softbellman.config import Range, nearest
from softbellman.config.text import shortened
from softbellman.core.objects import is_object_name
from softbellman.training.settings.common import Count, Seed

DataKind = Literal["builtin", "scenes", "parallel", "captions"]
"""The data that the package reads or makes."""


@dataclass(frozen=True)
class DataSettings:
    """Where sentence pairs or captioned images come from, and how they become token ids."""

    kind: DataKind | str = "builtin"
    """Where the data come from. `builtin`: a corpus generated from a seed, nothing to download. `scenes`: generated pictures of
    shapes with captions, nothing to download either (docs/data.md). `parallel`: text files, one sentence a line. `captions`:
    captions of images, which are read as features (docs/data.md). `FILE.py:NAME` or `MODULE:NAME`: what gives pairs of
    sentences, a data set of your own (docs/extending.md)."""
    path: str = ""
    """Where the files are. parallel: folder of files named SPLIT.LANGUAGE or SPLIT.LANGUAGE.gz, as in train.de and train.en.
    captions: the file of captions, or a folder with captions.tsv, with one dataset_*.json, or with one file per split."""
    captions: Literal["tsv", "karpathy", "coco"] = "tsv"
    """captions: format of the file. `tsv`: image, split, caption between tabs, or one SPLIT.tsv of image, caption; `karpathy`:
    dataset_*.json; `coco`: one annotation file SPLIT.json per split."""
    features: str = ""
    """captions: file of image features, .npy or .safetensors, [N, F] or [N, G, F], or the name of one beside the captions.
    Empty: features.npy there."""
    names: str = ""
    """captions: file with the images' names in the order of the features, one a line. Empty: those within the .safetensors
    file, else STEM.names.txt beside the features."""
    punctuation: Literal["keep", "drop"] = "keep"
    """captions: `drop` deletes punctuation characters; `keep` leaves the words as they are. Captions are lowercased."""
    encoder: str = ""
    """captions: name of the image network that made the features, such as resnet101 or timm:NAME; with it `softbellman caption
    RUN image.jpg` starts from pixels."""
    encoder_weights: str = ""
    """captions: file of that network's weights; `download`: the library's own."""
    source: str = "de"
    """Source language: the file ending of the source side; of a data set of your own the key in rows with keys."""
    target: str = "en"
    """Target language: the file ending of the target side, or the key."""
    train: str = "train"
    """Name of the training split."""
    dev: str = "val"
    """Name of the validation split, used for model selection."""
    test: str = "test"
    """Name of the test split, decoded once at the end."""
    empty_lines: Literal["skip", "refuse"] = "skip"
    """A training pair of which a side is empty. `skip`: it is left out, and the run says how many were. `refuse`: an error that
    names the line. Captions likewise. Validation and test lines are never left out."""
    tokenizer: Literal["word", "sentencepiece", "hf"] = "word"
    """`word`: the files are tokenised, words are split at spaces. `sentencepiece`: sub-words of raw text (needs the extra
    [text]). `hf`: the tokenizer of `data.tokenizer_path`, of raw text (needs the extra [hf])."""
    tokenizer_path: str = ""
    """hf: folder of a tokenizer that `save_pretrained` of transformers wrote. Empty: `model.path`."""
    vocabulary_size: Count = 8000
    """Pieces of each SentencePiece model; its three reserved ones give way to the four of a vocabulary."""
    min_frequency: Count = 3
    """Words seen less often in the training split become <unk>. The pieces of a SentencePiece model all stay."""
    max_length: Count = 50
    """Training pairs with a longer side (tokens) are dropped; validation and test pairs never are. Of images the caption."""
    seed: Seed = 1
    """Seed of the built-in corpus and of the scenes (not of the training)."""
    pairs: Count = 20000
    """Training pairs of the built-in corpus; training images of the scenes, five captions each."""
    dev_pairs: Count = 500
    """Validation pairs of the built-in corpus, or images of the scenes."""
    test_pairs: Count = 1000
    """Test pairs of the built-in corpus, or images of the scenes."""
    difficulty: Annotated[float, Range(least=1, most=5)] = 3.0
    """Difficulty of the built-in corpus, 1 (small vocabulary, plain clauses) to 5 (rare words, ambiguity, deep clauses). Of the
    scenes, 1 (few kinds of shapes, few synonyms) to 5."""

    def __post_init__(self) -> None:
        own, kinds = is_object_name(self.kind), get_args(DataKind)
        if not own and self.kind not in kinds:
            raise ValueError(
                f"data.kind must be {', '.join(kinds)} or the name of your own data set, FILE.py:NAME, got "
                f"{shortened(self.kind)}; nearest: {nearest(self.kind, kinds)!r}"
            )
        if self.path and (own or self.kind in ("builtin", "scenes")):
            raise ValueError(
                f"data.path is given, but data.kind is {self.kind}; for text files say data.kind: parallel, "
                "for captions data.kind: captions"
            )
        if self.features and self.kind != "captions":
            raise ValueError(f"data.features is given, but data.kind is {self.kind}; say data.kind: captions")
        if self.kind == "parallel" and self.source == self.target:
            raise ValueError(
                f"data.source and data.target are both {self.source}, which would train a copying task; say the endings of the "
                "two sides"
            )
        if self.tokenizer_path and self.tokenizer != "hf":
            raise ValueError(
                f"data.tokenizer_path is given, but data.tokenizer is {self.tokenizer}; say data.tokenizer: hf"
            )
        if self.kind in ("scenes", "captions") and self.tokenizer != "word":
            raise ValueError(f"data.tokenizer must be word for {self.kind}; sub-words are for translation")


_OF_KINDS = {
    ("builtin", "scenes"): ("pairs", "dev_pairs", "test_pairs", "difficulty", "seed"),
    ("captions",): ("captions", "encoder", "encoder_weights", "punctuation", "names"),
}
"""Keys of `data` that some kinds alone read."""


def unread_data(data: DataSettings) -> list[str]:
    """Sentences about settings of the data that are given and change nothing, and about splits that stand for two.

    They are no errors: a configuration file that is changed on the command line may have them.
    """

    def given(name: str) -> bool:
        return bool(getattr(data, name) != getattr(DataSettings, name))

    found = []
    for kinds, names in _OF_KINDS.items():
        if data.kind in kinds or is_object_name(data.kind):
            continue
        found += [f"data.{name} is not read with data.kind: {data.kind}" for name in names if given(name)]
    if data.tokenizer != "sentencepiece" and given("vocabulary_size"):
        found.append(f"data.vocabulary_size is of data.tokenizer: sentencepiece, not of {data.tokenizer}")
    if data.tokenizer in ("sentencepiece", "hf") and given("min_frequency"):
        found.append(f"data.min_frequency is of words, not of data.tokenizer: {data.tokenizer}")
    if data.kind in ("parallel", "captions"):
        splits = (("dev", "train"), ("test", "train"), ("test", "dev"))
        found += [
            f"data.{one} and data.{other} are the same split, {getattr(data, one)}"
            for one, other in splits
            if getattr(data, one) == getattr(data, other)
        ]
    return found


TRUTH = "truth"
"""The one of `evaluation.metrics` that is of scenes alone."""

MEAN_PAYOFF = "mean_payoff"
"""The one that is of token ids and the run's payoff, not of texts."""

SMALLER_IS_BETTER = ("ter",)
"""Those of which less is better."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Decoding of the validation and test sets."""

    beam: Count = 5
    """Beam size; 1 is greedy search."""
    batch_size: Count = 100
    """Sources decoded together."""
    max_length: Count = 60
    """Longest hypothesis, in tokens."""
    length_penalty: Annotated[float, Range(least=-20, most=20)] = 0.0
    """Exponent of the length normalisation; 0 compares plain log-probabilities as published."""
    metrics: tuple[
        Literal["bleu_orders", "cider", "rouge_l", "chrf", "ter", "truth", "mean_payoff"], ...
    ] = ()
    """Metrics of the validation and test sets beside BLEU. `bleu_orders`: BLEU-1, BLEU-2 and BLEU-3. `cider`: CIDEr-D with the
    document frequencies of the split's own references. `rouge_l`: ROUGE-L. `chrf`: chrF2. `ter`: TER, smaller is better.
    `truth`: the share of captions that are true of their scenes (docs/data.md), for `data.kind: scenes` alone. `mean_payoff`:
    what the search's hypotheses earn, `payoff.scale` left out. All times 100."""
    select_by: Literal["bleu", "cider", "rouge_l", "chrf", "ter", "truth", "mean_payoff"] = "bleu"
    """The metric of the validation set that selects weights, lowers a learning rate at a plateau and chooses among trials,
    wherever a validation searches. It is computed where `metrics` has it not."""
    tokenize: Literal["auto", "none", "13a"] = "auto"
    """sacrebleu's tokeniser, for the words of BLEU, CIDEr-D and ROUGE-L. `none`: words are what spaces part, for tokenised
    files. `13a`: sacrebleu's own, for raw text. `auto` follows `data.tokenizer`: `none` for words, `13a` for the others."""
    drop_long: bool = False
    """Drop validation and test pairs longer than `data.max_length` as the published code does (figures are then not those of
    the whole test set)."""

    @property
    def measured(self) -> tuple[str, ...]:
        """What is computed beside BLEU: `metrics`, and what selects."""
        if self.select_by in ("bleu", *self.metrics):
            return self.metrics
        return (*self.metrics, self.select_by)

    @property
    def of_texts(self) -> tuple[str, ...]:
        """Those of `measured` for which texts are enough."""
        return tuple(name for name in self.measured if name != MEAN_PAYOFF)

    def selection(self, by_bleu: str) -> str:
        """The logged metric that selects in a stage that BLEU selects by default; of another stage its own.

        Args:
            by_bleu: the stage's metric by default, as `dev_bleu` or `dev_td_error`; a leading minus means smaller is better.

        Example:
            >>> EvaluationSettings(select_by="ter").selection("dev_bleu")
            '-dev_ter'
        """
        of, _, metric = by_bleu.rpartition("_")
        if metric != "bleu":
            return by_bleu
        return f"{'-' if self.select_by in SMALLER_IS_BETTER else ''}{of}_{self.select_by}"

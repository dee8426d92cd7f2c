"""Settings of what is learnt: data, network sizes, decoding of the validation and test sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from softbellman.config import Range
from softbellman.training.settings.common import Count, NotNegative, Seed


@dataclass(frozen=True)
class DataSettings:
    """Where sentence pairs or captioned images come from, and how they become token ids."""

    kind: Literal["builtin", "scenes", "parallel", "captions"] = "builtin"
    """Where the data come from. `builtin`: a corpus generated from a seed, nothing to download. `scenes`: generated pictures of
    shapes with captions, nothing to download either (docs/data.md). `parallel`: text files, one sentence a line. `captions`:
    captions of images, which are read as features (docs/data.md)."""
    path: str = ""
    """Where the files are. parallel: folder of files named SPLIT.LANGUAGE or SPLIT.LANGUAGE.gz, as in train.de and train.en.
    captions: the file of captions, or a folder with captions.tsv, with one dataset_*.json, or with one file per split."""
    captions: Literal["tsv", "karpathy", "coco"] = "tsv"
    """captions: format of the file. `tsv`: image, split, caption between tabs, or one SPLIT.tsv of image, caption; `karpathy`:
    dataset_*.json; `coco`: one annotation file SPLIT.json per split."""
    features: str = ""
    """captions: file of image features, .npy or .safetensors, [N, F] or [N, G, F]; empty: features.npy beside the captions."""
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
    """Source language: the file ending of the source side."""
    target: str = "en"
    """Target language: the file ending of the target side."""
    train: str = "train"
    """Name of the training split."""
    dev: str = "val"
    """Name of the validation split, used for model selection."""
    test: str = "test"
    """Name of the test split, decoded once at the end."""
    empty_lines: Literal["skip", "refuse"] = "skip"
    """A training pair of which a side is empty. `skip`: it is left out, and the run says how many were. `refuse`: an error that
    names the line. Captions likewise. Validation and test lines are never left out."""
    tokenizer: Literal["word", "sentencepiece"] = "word"
    """`word`: the files are tokenised, words are split at spaces; `sentencepiece`: sub-words of raw text (needs the extra
    [text])."""
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
        if self.path and self.kind in ("builtin", "scenes"):
            raise ValueError(
                f"data.path is given, but data.kind is {self.kind}; for text files say data.kind: parallel, "
                "for captions data.kind: captions"
            )
        if self.features and self.kind != "captions":
            raise ValueError(f"data.features is given, but data.kind is {self.kind}; say data.kind: captions")
        if self.kind in ("scenes", "captions") and self.tokenizer != "word":
            raise ValueError(f"data.tokenizer must be word for {self.kind}; sub-words are for translation")


@dataclass(frozen=True)
class ModelSettings:
    """Sizes that actor and critic share: biLSTM encoder, attention, LSTM decoder."""

    embedding: Count = 256
    """Width of the word embeddings."""
    hidden: Count = 256
    """Width of the decoder LSTM; each direction of the encoder has half of it."""
    attention_size: Count = 256
    """Width of the MLP attention's hidden layer."""
    layers: Count = 1
    """LSTM layers of the encoder and of the decoder."""
    input_feeding: bool = False
    """The attention output of one step joins the input of the next (actor and critic); an actor without attention has none."""
    init_range: NotNegative = 0.1
    """Weights start uniform in [-init_range, init_range]."""
    bfloat16_products: Literal["none", "gradients", "output", "all"] = "none"
    """Which matmuls of an update have bfloat16 factors. `none`: all are float32. `gradients`: those of the output layers'
    gradient alone. `output`: the logits' and action values' as well, which take half the memory and are rounded to 8 bits.
    `all`: those of the LSTM layers and of the attention's output too. Worth it on processors with avx512_bf16 or AMX
    (docs/performance.md)."""
    image_encoder: Literal["trained", "likelihood", "random"] = "trained"
    """scenes: what trains the convolutions between the pixels and the decoder. `trained`: every stage of the actor;
    `likelihood`: maximum likelihood alone, the later stages move the decoder; `random`: nothing, they stay as they start."""
    image_width: Count = 64
    """scenes: features at each position of the image encoder's grid, a multiple of 16."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Decoding of the validation and test sets."""

    beam: Count = 5
    """Beam size; 1 is greedy search."""
    batch_size: Count = 100
    """Sources decoded together."""
    max_length: Count = 60
    """Longest hypothesis, in tokens."""
    length_penalty: Annotated[float, Range()] = 0.0
    """Exponent of the length normalisation; 0 compares plain log-probabilities as published."""
    metrics: tuple[Literal["bleu_orders", "cider", "rouge_l", "chrf"], ...] = ()
    """Metrics of the validation and test sets beside BLEU, which selects. `bleu_orders`: BLEU-1, BLEU-2 and BLEU-3; `cider`:
    CIDEr-D with the document frequencies of the split's own references; `rouge_l`: ROUGE-L; `chrf`: chrF2. All times 100."""
    tokenize: Literal["auto", "none", "13a"] = "auto"
    """sacrebleu's tokeniser, for the words of BLEU, CIDEr-D and ROUGE-L. `none`: words are what spaces part, for tokenised
    files. `13a`: sacrebleu's own, for raw text. `auto` follows `data.tokenizer`: `none` for words, `13a` for SentencePiece."""
    drop_long: bool = False
    """Drop validation and test pairs longer than `data.max_length` as the published code does (figures are then not those of
    the whole test set)."""

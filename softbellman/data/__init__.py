"""Text in, batches out: vocabularies, parallel corpora, tokenizers, batching and the built-in corpus."""

from .batching import Batch, BatchIterator, Examples, collate
from .builtin import Difficulty, Split, builtin_dataset, generate_builtin
from .captions import (
    CaptionCorpus,
    CaptionDataset,
    CaptionTokenizer,
    FeatureSpec,
    ImageFeatures,
    load_captions,
)
from .codec import Codec
from .corpus import (
    Corpus,
    Dataset,
    TranslationExample,
    build_dataset,
    find_text,
    load_dataset,
    load_split,
)
from .errors import DataError, MissingFileError
from .parallel import ParallelText, read_parallel
from .text import read_lines
from .tokenizers import SentencePieceTokenizer, Tokenizer, WordTokenizer
from .vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Vocabulary

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPECIAL_TOKENS",
    "UNK",
    "Batch",
    "BatchIterator",
    "CaptionCorpus",
    "CaptionDataset",
    "CaptionTokenizer",
    "Codec",
    "Corpus",
    "DataError",
    "Dataset",
    "Difficulty",
    "Examples",
    "FeatureSpec",
    "ImageFeatures",
    "MissingFileError",
    "ParallelText",
    "SentencePieceTokenizer",
    "Split",
    "Tokenizer",
    "TranslationExample",
    "Vocabulary",
    "WordTokenizer",
    "build_dataset",
    "builtin_dataset",
    "collate",
    "find_text",
    "generate_builtin",
    "load_captions",
    "load_dataset",
    "load_split",
    "read_lines",
    "read_parallel",
]

"""Text in, batches out: vocabularies, parallel corpora, tokenizers, batching and the built-in corpora."""

from softbellman.data.batching import Batch, BatchIterator, Examples, collate
from softbellman.data.builtin import Difficulty, Split, builtin_dataset, generate_builtin
from softbellman.data.captions import (
    CaptionCorpus,
    CaptionDataset,
    CaptionTokenizer,
    FeatureSpec,
    ImageFeatures,
    ImagePixels,
    PixelSpec,
    load_captions,
    read_pixels,
)
from softbellman.data.codec import Codec
from softbellman.data.corpus import (
    Corpus,
    Dataset,
    TranslationExample,
    build_dataset,
    find_text,
    load_dataset,
    load_split,
)
from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.parallel import ParallelText, read_parallel
from softbellman.data.scenes import SceneSplit, generate_scenes, scenes_dataset
from softbellman.data.text import read_lines
from softbellman.data.tokenizers import SentencePieceTokenizer, Tokenizer, WordTokenizer
from softbellman.data.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Vocabulary

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
    "ImagePixels",
    "MissingFileError",
    "ParallelText",
    "PixelSpec",
    "SceneSplit",
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
    "generate_scenes",
    "load_captions",
    "load_dataset",
    "load_split",
    "read_lines",
    "read_parallel",
    "read_pixels",
    "scenes_dataset",
]

"""Text in, batches out: vocabularies, parallel corpora, tokenizers, batching and the built-in corpora."""

from softbellman.data.batching import Batch, BatchIterator, Examples, collate
from softbellman.data.builtin import Difficulty, Split, builtin_dataset, builtin_texts, generate_builtin
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
from softbellman.data.corpus import Corpus, TranslationExample
from softbellman.data.dataset import (
    Dataset,
    build_dataset,
    build_vocabulary,
    find_text,
    load_dataset,
    load_split,
    load_splits,
)
from softbellman.data.errors import DataError, MissingFileError
from softbellman.data.export import export_builtin, export_scenes
from softbellman.data.huggingface import HuggingFaceTokenizer
from softbellman.data.left_out import LeftOut
from softbellman.data.parallel import ParallelText, read_parallel
from softbellman.data.scenes import SceneSplit, generate_scenes, scenes_dataset
from softbellman.data.text import read_lines
from softbellman.data.tokenizers import SentencePieceTokenizer, Tokenizer, WordTokenizer
from softbellman.data.vocabulary import (
    BOS,
    EOS,
    PAD,
    RESERVED,
    SPECIAL_TOKENS,
    UNK,
    Frame,
    SpecialTokens,
    Vocabulary,
)

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "RESERVED",
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
    "Frame",
    "HuggingFaceTokenizer",
    "ImageFeatures",
    "ImagePixels",
    "LeftOut",
    "MissingFileError",
    "ParallelText",
    "PixelSpec",
    "SceneSplit",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "Split",
    "Tokenizer",
    "TranslationExample",
    "Vocabulary",
    "WordTokenizer",
    "build_dataset",
    "build_vocabulary",
    "builtin_dataset",
    "builtin_texts",
    "collate",
    "export_builtin",
    "export_scenes",
    "find_text",
    "generate_builtin",
    "generate_scenes",
    "load_captions",
    "load_dataset",
    "load_split",
    "load_splits",
    "read_lines",
    "read_parallel",
    "read_pixels",
    "scenes_dataset",
]

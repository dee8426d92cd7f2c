"""Captions: images as features, several reference captions each; readers of the usual files."""

from .corpus import CaptionCorpus, CaptionDataset, CaptionExample, load_captions
from .features import FeatureSpec, ImageFeatures, find_features
from .pixels import ImagePixels, PixelSpec, read_pixels
from .readers import read_caption_splits, read_coco, read_karpathy, read_tsv
from .text import CaptionTokenizer, ImageCaptions

__all__ = [
    "CaptionCorpus",
    "CaptionDataset",
    "CaptionExample",
    "CaptionTokenizer",
    "FeatureSpec",
    "ImageCaptions",
    "ImageFeatures",
    "ImagePixels",
    "PixelSpec",
    "find_features",
    "load_captions",
    "read_caption_splits",
    "read_coco",
    "read_karpathy",
    "read_pixels",
    "read_tsv",
]

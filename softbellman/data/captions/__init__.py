"""Captions: images as features, several reference captions each; readers of the usual files."""

from softbellman.data.captions.corpus import CaptionCorpus, CaptionDataset, CaptionExample, load_captions
from softbellman.data.captions.features import FeatureSpec, ImageFeatures, find_features
from softbellman.data.captions.pixels import ImagePixels, PixelSpec, read_pixels
from softbellman.data.captions.readers import read_caption_splits, read_coco, read_karpathy, read_tsv
from softbellman.data.captions.text import CaptionTokenizer, ImageCaptions

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

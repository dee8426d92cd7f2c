"""What a run works on: the corpora and the codecs.

A task reads sentences (a source codec) or images (the shape of their features, the size of their pixels); everything else is
the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from softbellman.data import (
    CaptionCorpus,
    CaptionDataset,
    Codec,
    Corpus,
    FeatureSpec,
    HuggingFaceTokenizer,
    LeftOut,
    ParallelText,
    PixelSpec,
    SentencePieceTokenizer,
    SpecialTokens,
    Tokenizer,
    WordTokenizer,
    build_dataset,
    builtin_texts,
    load_captions,
    load_splits,
    scenes_dataset,
)
from softbellman.training.own_data import read_own
from softbellman.training.settings import DataSettings


@dataclass(frozen=True)
class Task:
    """The three splits, the codec of each language, or of captions the codec of the target and the features' (images') shape.

    Attributes:
        targets: "first": a sentence is one training example with its first reference; "all": each pair of an image and one of
            its captions is one.
        left_out: training pairs that are not used.
    """

    train: Corpus | CaptionCorpus
    dev: Corpus | CaptionCorpus
    test: Corpus | CaptionCorpus
    source_codec: Codec | None
    target_codec: Codec
    features: FeatureSpec | PixelSpec | None = None
    targets: Literal["first", "all"] = "first"
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def special(self) -> SpecialTokens:
        """The reserved ids of the target vocabulary."""
        return self.target_codec.special

    @property
    def source_size(self) -> int:
        """Size of the source vocabulary, width of the image features, or side of the images."""
        return source_size(self.source_codec, self.features)

    @property
    def reads(self) -> Literal["text", "features", "pixels"]:
        """What a source is."""
        if self.features is None:
            return "text"
        return "pixels" if isinstance(self.features, PixelSpec) else "features"

    @property
    def positions(self) -> int | None:
        """Grid positions of image features, 0 for one vector an image; None where there are none."""
        return self.features.positions if isinstance(self.features, FeatureSpec) else None

    def save(self, folder: Path) -> None:
        """Write what a trained actor needs beside its weights."""
        if self.source_codec is not None:
            self.source_codec.save(folder, "source")
        if self.features is not None:
            self.features.save(folder)
        self.target_codec.save(folder, "target")

    def check_features(self, folder: Path) -> None:
        """Raises DataError where images have features of another width than those a run folder was started with."""
        # Nothing is known where the run was stopped before it wrote anything.
        known = (folder / "source.features.json").exists()
        if known and isinstance(self.features, FeatureSpec) and isinstance(self.train, CaptionCorpus):
            FeatureSpec.load(folder).check(self.features, origin=self.train.features.origin)

    def describe(self) -> str:
        """Sizes, in words."""
        target, aside = f"{len(self.target_codec):,}", str(self.left_out)
        aside = f" ({aside} left out)" if aside else ""
        if self.source_codec is None:
            pairs = sum(map(len, self.train.references))
            read = str(self.features) if self.reads == "pixels" else f"features of {self.features}"
            return f"{len(self.train):,} training images with {pairs:,} captions{aside}, {read}, vocabulary {target}"
        return (
            f"{len(self.train):,} training pairs{aside}, vocabularies {len(self.source_codec):,} -> {target}"
        )

    def digest(self) -> str:
        """Hash of what trains and selects: ids (and features) of the training and validation splits, the vocabularies."""
        digest = hashlib.sha256()
        for part in (self.train, self.dev):
            part.fingerprint(digest)
        for codec in (self.source_codec, self.target_codec):
            if codec is not None:
                digest.update(repr(codec.vocabulary.tokens).encode())
        return digest.hexdigest()

    def digests(self) -> dict[str, str]:
        """Hashes of what the run reads, by name: the splits with their texts, the vocabularies."""
        found = {}
        for name, part in (
            ("training_data", self.train),
            ("validation_data", self.dev),
            ("test_data", self.test),
        ):
            digest = hashlib.sha256()
            part.fingerprint(digest)
            if part is not self.train:  # scores compare with the text
                digest.update(repr(part.reference_texts).encode())
            found[name] = digest.hexdigest()
        for name, codec in (
            ("source_vocabulary", self.source_codec),
            ("target_vocabulary", self.target_codec),
        ):
            if codec is not None:
                found[name] = vocabulary_digest(codec)
        return found

    def forbidden(self, device: torch.device) -> Tensor:
        """Tokens that are never drawn or decoded: padding, BOS, UNK, `[V]`, bool."""
        mask = torch.zeros(len(self.target_codec), dtype=torch.bool, device=device)
        mask[list(self.special.never)] = True
        return mask


def vocabulary_digest(codec: Codec) -> str:
    """Hash of a vocabulary's tokens in their order."""
    return hashlib.sha256(repr(codec.vocabulary.tokens).encode()).hexdigest()


def load_task(settings: DataSettings) -> Task:
    """Read or generate the corpora and build the vocabularies from the training split."""
    if settings.kind == "captions":
        return _load_captions(settings)
    if settings.kind == "scenes":
        return _of_captions(
            scenes_dataset(
                seed=settings.seed,
                images=settings.pairs,
                dev_images=settings.dev_pairs,
                test_images=settings.test_pairs,
                difficulty=settings.difficulty,
                min_frequency=settings.min_frequency,
                max_length=settings.max_length,
            )
        )
    return _load_translation(settings)


def _load_translation(settings: DataSettings) -> Task:
    readers = {"builtin": _builtin, "parallel": _read_files}
    train, dev, test = readers.get(settings.kind, read_own)(settings)
    sources, references = train.sources, [group[0] for group in train.references]
    data = build_dataset(
        train,
        dev,
        test,
        min_frequency=settings.min_frequency,
        max_length=settings.max_length,
        empty_lines=settings.empty_lines,
        source_tokenizer=_tokenizer(settings, "source", sources, train.source_origin),
        target_tokenizer=_tokenizer(settings, "target", references, train.target_origin),
    )
    return Task(
        train=data.train,
        dev=data.dev,
        test=data.test,
        source_codec=Codec(data.source_vocabulary, data.source_tokenizer),
        target_codec=Codec(data.target_vocabulary, data.target_tokenizer),
        left_out=data.left_out,
    )


def _builtin(settings: DataSettings) -> tuple[ParallelText, ParallelText, ParallelText]:
    return builtin_texts(
        seed=settings.seed,
        pairs=settings.pairs,
        dev_pairs=settings.dev_pairs,
        test_pairs=settings.test_pairs,
        difficulty=settings.difficulty,
    )


def _read_files(settings: DataSettings) -> tuple[ParallelText, ParallelText, ParallelText]:
    if not settings.path:
        raise ValueError(
            "data.path is empty: name the folder that holds the parallel files (--data.path DIR)"
        )
    return load_splits(
        settings.path,
        source_language=settings.source,
        target_language=settings.target,
        train=settings.train,
        dev=settings.dev,
        test=settings.test,
        empty_lines=settings.empty_lines,
    )


def _tokenizer(
    settings: DataSettings, side: Literal["source", "target"], lines: list[str], origin: str
) -> Tokenizer:
    """The tokenizer of one side of the training text."""
    if settings.tokenizer == "hf":
        if not settings.tokenizer_path:
            raise ValueError(
                "data.tokenizer_path is empty: name the folder of the tokenizer (--data.tokenizer_path DIR)"
            )
        return HuggingFaceTokenizer.load(settings.tokenizer_path, side=side)
    if settings.tokenizer == "word":
        return WordTokenizer()
    return SentencePieceTokenizer.train(lines, vocabulary_size=settings.vocabulary_size, origin=origin)


def _load_captions(settings: DataSettings) -> Task:
    if not settings.path:
        raise ValueError("data.path is empty: name the file of captions, or its folder (--data.path FILE)")
    data = load_captions(
        settings.path,
        format=settings.captions,
        features=settings.features or None,
        names=settings.names or None,
        train=settings.train,
        dev=settings.dev,
        test=settings.test,
        min_frequency=settings.min_frequency,
        max_length=settings.max_length,
        punctuation=settings.punctuation,
        empty_lines=settings.empty_lines,
    )
    return _of_captions(data)


def _of_captions(data: CaptionDataset) -> Task:
    return Task(
        train=data.train,
        dev=data.dev,
        test=data.test,
        source_codec=None,
        target_codec=Codec(data.target_vocabulary, data.target_tokenizer),
        features=data.spec,
        targets="all",
        left_out=data.left_out,
    )


def source_size(codec: Codec | None, features: FeatureSpec | PixelSpec | None) -> int:
    """Size of the source vocabulary, width of the image features, or side of the images in pixels; one of them is there."""
    if codec is not None:
        return len(codec)
    assert features is not None
    return features.side if isinstance(features, PixelSpec) else features.width

"""From a seed to the three splits of the scenes, as records or as a ready dataset."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from softbellman.data.builtin.draws import Draws
from softbellman.data.captions.corpus import CaptionCorpus, CaptionDataset
from softbellman.data.captions.pixels import ImagePixels
from softbellman.data.captions.text import CaptionTokenizer, ImageCaptions
from softbellman.data.corpus import Corpus
from softbellman.data.left_out import LeftOut
from softbellman.data.scenes.captions import say_scene
from softbellman.data.scenes.difficulty import SceneDifficulty
from softbellman.data.scenes.layout import draw_scene
from softbellman.data.scenes.relations import facts_of
from softbellman.data.scenes.render import SIDE, Pixels, render
from softbellman.data.scenes.scene import Scene
from softbellman.data.vocabulary import Vocabulary

CAPTIONS = 5
SplitName = Literal["train", "dev", "test"]
_SHARES: dict[SplitName, range] = {"dev": range(0, 13), "test": range(13, 39), "train": range(39, 128)}
"""Of 128 equally likely classes of scenes, those that belong to each split."""


@dataclass(frozen=True)
class SceneSplit:
    """Scenes with their captions.

    Attributes:
        names: N names, `SPLIT-NUMBER.png`.
        scenes: N scenes.
        captions: N lists of distinct captions, lowercased words parted by single spaces.
    """

    names: list[str]
    scenes: list[Scene]
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.scenes)

    def render(self, *, side: int = SIDE) -> Pixels:
        """All pictures, uint8, [N, side, side, 3]."""
        pictures = np.empty((len(self), side, side, 3), dtype=np.uint8)
        for number, scene in enumerate(self.scenes):
            pictures[number] = render(scene, side=side)
        return pictures


class ScenePixels(ImagePixels):
    """The pictures of a split, and the scenes that they show."""

    def __init__(self, split: SceneSplit, *, origin: str) -> None:
        super().__init__(split.render(), split.names, origin=origin)
        self.scenes = list(split.scenes)


def scenes_of(corpus: Corpus | CaptionCorpus) -> list[Scene] | None:
    """The scene of each image of a corpus, in its order; None of a corpus that is of no scenes."""
    if isinstance(corpus, CaptionCorpus) and isinstance(corpus.features, ScenePixels):
        return [corpus.features.scenes[row] for row in corpus.rows]
    return None


def generate_scenes(
    *,
    seed: int = 1,
    images: int = 4_000,
    dev_images: int = 300,
    test_images: int = 600,
    difficulty: float = 3.0,
    captions: int = CAPTIONS,
) -> dict[str, SceneSplit]:
    """Scenes with captions: splits "train", "dev" and "test", the same for the same arguments on every machine.

    A scene and its captions are a function of (difficulty, seed, split, index): no split depends on the size of another, or
    of itself. What captions can tell of a scene (kinds, colours, sizes, relations) decides by its hash to which split it
    belongs, so that nothing told in dev or test is told in training.

    Args:
        seed: decides the scenes.
        images, dev_images, test_images: scenes of each split.
        difficulty: 1 (few kinds of shapes, few synonyms) to 5; see `SceneDifficulty`.
        captions: of each scene.

    Raises:
        ValueError: a count below 1 or a difficulty outside 1..5.
    """
    counts = {"images": images, "dev_images": dev_images, "test_images": test_images, "captions": captions}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    sizes: dict[SplitName, int] = {"train": images, "dev": dev_images, "test": test_images}
    return {
        split: generate_split(split, seed=seed, count=count, difficulty=difficulty, captions=captions)
        for split, count in sizes.items()
    }


def generate_split(
    split: SplitName, *, seed: int = 1, count: int, difficulty: float = 3.0, captions: int = CAPTIONS
) -> SceneSplit:
    """The first scenes of one split; see `generate_scenes`."""
    settings = SceneDifficulty.of(difficulty)
    key = f"softbellman scenes {float(difficulty)} {operator.index(seed)} {split}"
    made = [_scene_at(settings, f"{key} {index}", split, captions) for index in range(count)]
    return SceneSplit(
        [f"{split}-{index:05d}.png" for index in range(count)],
        [scene for scene, _ in made],
        [said for _, said in made],
    )


def content(scene: Scene) -> str:
    """What captions can tell of a scene, whatever the order of its shapes: kinds, colours, sizes and facts."""
    names = [f"{shape.size} {shape.colour} {shape.kind}" for shape in scene.shapes]
    facts = sorted(
        " ".join([fact.relation, *(names[number] for number in fact[1:] if number >= 0)])
        for fact in facts_of(scene)
    )
    return "; ".join([*sorted(names), *facts])


def _scene_at(
    settings: SceneDifficulty, key: str, split: SplitName, captions: int
) -> tuple[Scene, list[str]]:
    """The first scene of a key's draws that belongs to the split, and its captions."""
    draws = Draws(key)
    while True:
        scene = draw_scene(draws, settings)
        if hashlib.sha256(content(scene).encode()).digest()[0] // 2 in _SHARES[split]:
            return scene, say_scene(scene, Draws(f"{key} captions"), settings, count=captions)


def scenes_dataset(
    *,
    seed: int = 1,
    images: int = 4_000,
    dev_images: int = 300,
    test_images: int = 600,
    difficulty: float = 3.0,
    min_frequency: int = 3,
    max_length: int | None = 50,
) -> CaptionDataset:
    """`generate_scenes` made into corpora of pixels and captions with a vocabulary, as `load_captions` does with files."""
    splits = generate_scenes(
        seed=seed, images=images, dev_images=dev_images, test_images=test_images, difficulty=difficulty
    )
    tokenizer = CaptionTokenizer()
    vocabulary = Vocabulary.build(
        (tokenizer.tokenize(caption) for group in splits["train"].captions for caption in group),
        min_frequency=min_frequency,
        origin="scenes, train",
    )
    corpora = {}
    for name, split in splits.items():
        origin = f"scenes, {name}"
        text = ImageCaptions(split.names, split.captions, origin=origin)
        pixels = ScenePixels(split, origin=origin)
        corpora[name] = CaptionCorpus.from_text(text, pixels, vocabulary, tokenizer)
    whole = corpora["train"]
    kept = whole if max_length is None else whole.drop_longer(max_length, name="scenes, train")
    left_out = LeftOut(longer=whole.pairs - kept.pairs, max_length=max_length)
    spec = whole.features.spec
    return CaptionDataset(kept, corpora["dev"], corpora["test"], vocabulary, tokenizer, spec, left_out)

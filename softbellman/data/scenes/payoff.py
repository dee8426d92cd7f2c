"""A payoff that looks at the picture: whether a caption is true of its scene. `configs/scenes_truth.yaml` trains on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from softbellman.data.scenes.generator import generate_scenes
from softbellman.data.scenes.scene import Scene
from softbellman.data.scenes.truth import judge_caption


class TrueCaption:
    """1 for a caption that is true of the scene which its references tell, 0 for one that is false or cannot be read.

    The scene is found by its captions, among those that the data settings give by default. For others write a class of your
    own: `class Mine(TrueCaption): seed = 2`.

    Attributes:
        seed, images, dev_images, test_images, difficulty: see `generate_scenes`; more scenes than the data have do no harm.
    """

    seed, images, dev_images, test_images, difficulty = 1, 4_000, 300, 600, 3.0
    rewards = "end"
    version = "1"

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Scores of N captions with the captions of their scenes, words parted by single spaces.

        Raises:
            ValueError: no scene has these captions, or several have.
        """
        return [
            float(judge_caption(caption, self.scene_of(group)) == "true")
            for caption, group in zip(hypotheses, references, strict=True)
        ]

    def scene_of(self, captions: Sequence[str]) -> Scene:
        """The one scene that has all these captions; what an unknown word is in does not count.

        Raises:
            ValueError: there is none, or there are several.
        """
        known = [caption for caption in captions if "<unk>" not in caption.split()]
        candidates = [self._scenes.get(caption, set()) for caption in known]
        found = set.intersection(*candidates) if candidates else set()
        if len(found) != 1:
            raise ValueError(
                f"{len(found) or 'no'} scenes of seed {self.seed} and difficulty {self.difficulty:g} have the captions "
                f"{list(captions)!r}; say payoff.references: all, and give {type(self).__name__} the seed, difficulty "
                "and numbers of images of the data"
            )
        (scene,) = found
        return scene

    @cached_property
    def _scenes(self) -> dict[str, set[Scene]]:
        """The scenes that each caption is said of."""
        scenes: dict[str, set[Scene]] = {}
        for split in generate_scenes(
            seed=self.seed,
            images=self.images,
            dev_images=self.dev_images,
            test_images=self.test_images,
            difficulty=self.difficulty,
        ).values():
            for scene, captions in zip(split.scenes, split.captions, strict=True):
                for caption in captions:
                    scenes.setdefault(caption, set()).add(scene)
        return scenes

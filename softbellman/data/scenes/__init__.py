"""Scenes: small pictures of coloured shapes and what can be said of them, generated from a seed.

A first captioning run needs no data.

A scene holds two to four shapes, placed so that a relation between them strikes the eye: one left of, above, inside, in
front of, touching another, or between two others. Five captions tell it, each beginning with something else, with words,
order and detail of its own; all are true of the picture. `docs/data.md` shows some.

Modules, in the order of the pipeline: `shapes` (what each kind covers), `scene` (the record), `difficulty` (the one
number), `relations` (what holds between shapes), `layout` (draws a scene), `words` and `captions` (say it), `render`
(paints it), `generator` (splits), `figure` and `files` (to look at).
"""

from softbellman.data.scenes.difficulty import SceneDifficulty
from softbellman.data.scenes.generator import SceneSplit, generate_scenes, scenes_dataset
from softbellman.data.scenes.relations import Fact, facts_of, place_of
from softbellman.data.scenes.render import SIDE, render
from softbellman.data.scenes.scene import CANVAS, Scene, Shape

__all__ = [
    "CANVAS",
    "SIDE",
    "Fact",
    "Scene",
    "SceneDifficulty",
    "SceneSplit",
    "Shape",
    "facts_of",
    "generate_scenes",
    "place_of",
    "render",
    "scenes_dataset",
]

"""Scenes: small pictures of coloured shapes and what can be said of them, generated from a seed.

A first captioning run needs no data.

A scene holds two to four shapes, placed so that a relation between them strikes the eye: one left of, above, inside, in
front of, touching another, or between two others. Five captions tell it, each beginning with something else, with words,
order and detail of its own; all are true of the picture. `docs/data.md` shows some.

Modules, in the order of the pipeline: `shapes` (what each kind covers), `scene` (the record), `difficulty` (the one
number), `relations` (what holds between shapes), `layout` (draws a scene), `words` and `captions` (say it), `render`
(paints it), `reader` and `truth` (read captions back and judge them), `generator` (splits), `payoff` (truth as what is trained
on), `figure` and `files` (to look at).
"""

from softbellman.data.scenes.difficulty import SceneDifficulty
from softbellman.data.scenes.generator import SceneSplit, generate_scenes, scenes_dataset, scenes_of
from softbellman.data.scenes.payoff import TrueCaption
from softbellman.data.scenes.reader import Statement, UnreadableCaption, read_caption
from softbellman.data.scenes.relations import Fact, facts_of, place_of
from softbellman.data.scenes.render import SIDE, render
from softbellman.data.scenes.scene import CANVAS, Scene, Shape
from softbellman.data.scenes.truth import Truth, judge_caption, judge_captions

__all__ = [
    "CANVAS",
    "SIDE",
    "Fact",
    "Scene",
    "SceneDifficulty",
    "SceneSplit",
    "Shape",
    "Statement",
    "TrueCaption",
    "Truth",
    "UnreadableCaption",
    "facts_of",
    "generate_scenes",
    "judge_caption",
    "judge_captions",
    "place_of",
    "read_caption",
    "render",
    "scenes_dataset",
    "scenes_of",
]

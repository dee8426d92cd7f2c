"""Says a scene in several ways.

A caption begins with the subject of a relation, with its object, with the relation itself, with an opening such as
`there is`, with a list, a place or a count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from softbellman.data.builtin.draws import Draws
from softbellman.data.scenes.difficulty import SceneDifficulty
from softbellman.data.scenes.relations import Fact, facts_of, place_of
from softbellman.data.scenes.scene import Scene
from softbellman.data.scenes.words import (
    BETWEEN,
    COLUMNS,
    COUNT_LINKS,
    FRONTED_VERBS,
    NOUNS,
    NUMBERS,
    OPENINGS,
    PLACES,
    RELATIONS,
    ROWS,
    SIZES,
)

_TRIES = 100


class _Speaker:
    """One caption of a scene.

    Args:
        scene: what is told.
        facts: its facts, the striking ones first.
        draws: the source of every choice.
        settings: freedom and detail of the captions.
    """

    def __init__(self, scene: Scene, facts: Sequence[Fact], draws: Draws, settings: SceneDifficulty) -> None:
        self.scene, self.facts, self.draws, self.settings = scene, facts, draws, settings
        self.fact = self._choose_fact()

    def choose(self, ways: Sequence[str]) -> str:
        """The first way with weight 1, each other one with weight `freedom`."""
        sums = [1.0 + self.settings.freedom * number for number in range(len(ways))]
        return self.draws.weighted(ways, sums)

    def detailed(self) -> bool:
        return self.draws.chance(self.settings.detail)

    def name(self, number: int) -> str:
        """`a small red circle`; size and colour may be left out."""
        shape = self.scene.shapes[number]
        words = [self.choose(NOUNS[shape.kind])]
        if not self.draws.chance(self.settings.vague):
            words.insert(0, shape.colour)
        if SIZES[shape.size] and self.detailed():
            words.insert(0, self.choose(SIZES[shape.size]))
        return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"

    def placed(self, number: int) -> str:
        """A name, and where its shape is, if that can be said; a detail."""
        place = place_of(self.scene.shapes[number])
        if place is None or not self.detailed():
            return self.name(number)
        return f"{self.name(number)} {self.choose(PLACES[place])}"

    def told(self) -> tuple[int, ...]:
        """The shapes of the chosen fact."""
        fact = self.fact
        return (fact.subject, fact.object) if fact.other < 0 else (fact.subject, fact.object, fact.other)

    def rest(self) -> str:
        """The shapes the fact says nothing of, or nothing: a detail."""
        others = [number for number in range(len(self.scene.shapes)) if number not in self.told()]
        if not others or not self.detailed():
            return ""
        return f" , and {_listed([self.placed(number) for number in others])}"

    def relation(self) -> str:
        """The relation with its object or objects, to stand behind the subject: `above a red star`."""
        fact = self.fact
        if fact.other >= 0:
            two = [self.name(fact.object), self.name(fact.other)]
            if self.draws.chance(0.5):
                two.reverse()
            return f"{self.choose(BETWEEN)} {two[0]} and {two[1]}"
        return f"{self.choose(RELATIONS[fact.relation].forward)} {self.name(fact.object)}"

    # What a caption begins with ---------------------------------------------------------------------------------------

    def subject_first(self) -> str:
        verb = self.choose(("", " is"))
        return f"{self.name(self.fact.subject)}{verb} {self.relation()}{self.rest()}"

    def object_first(self) -> str:
        fact = self.fact
        if fact.other >= 0:
            two = f"{self.name(fact.object)} and {self.name(fact.other)}"
            return f"{two} with {self.name(fact.subject)} between them{self.rest()}"
        forms = RELATIONS[fact.relation]
        if self.draws.chance(0.5):
            said = f"{self.choose(forms.backward)} {self.name(fact.subject)}"
        else:
            said = f"with {self.name(fact.subject)} {self.choose(forms.after_with)}"
        return f"{self.name(fact.object)} {said}{self.rest()}"

    def relation_first(self) -> str:
        return f"{self.relation()} {self.choose(FRONTED_VERBS)} {self.name(self.fact.subject)}{self.rest()}"

    def opening_first(self) -> str:
        opening = self.choose(OPENINGS)
        return f"{opening} {self.name(self.fact.subject)} {self.relation()}{self.rest()}"

    def list_first(self) -> str:
        """All shapes, in the order of their row or in any; of two, also how they stand to each other."""
        fact, count = self.fact, len(self.scene.shapes)
        if fact.other >= 0 and count == 3:
            before, behind = self.scene.shapes[fact.object], self.scene.shapes[fact.other]
            order = ROWS if behind.x - before.x > behind.y - before.y else COLUMNS
            names = [self.name(number) for number in (fact.object, fact.subject, fact.other)]
            return f"{_listed(names)} {self.choose(order)}"
        names = [self.placed(number) if count > 2 else self.name(number) for number in self._shuffled()]
        if count == 2 and self.detailed():
            return f"{_listed(names)} {self.choose(RELATIONS[fact.relation].together)}"
        return _listed(names)

    def place_first(self) -> str | None:
        """The place of a shape, then the others; None when no shape has a place with a name."""
        for number in self._shuffled():
            place = place_of(self.scene.shapes[number])
            if place is not None:
                others = [self.placed(other) for other in self._shuffled() if other != number]
                verb = self.choose(FRONTED_VERBS)
                return f"{self.choose(PLACES[place])} {verb} {self.name(number)} , and {_listed(others)}"
        return None

    def count_first(self) -> str:
        count = NUMBERS[len(self.scene.shapes)]
        names = _listed([self.name(number) for number in self._shuffled()])
        return f"{count} shapes {self.choose(COUNT_LINKS)} {names}"

    def _choose_fact(self) -> Fact:
        """Mostly the most striking fact, sometimes another."""
        alike = [fact for fact in self.facts if fact.relation == self.facts[0].relation]
        return self.draws.pick(self.facts if self.draws.chance(self.settings.vague * 2) else alike)

    def _shuffled(self) -> list[int]:
        numbers = list(range(len(self.scene.shapes)))
        for last in range(len(numbers) - 1, 0, -1):
            other = self.draws.below(last + 1)
            numbers[last], numbers[other] = numbers[other], numbers[last]
        return numbers


BEGINNINGS: tuple[tuple[Callable[[_Speaker], str | None], float], ...] = (
    (_Speaker.subject_first, 4.0),
    (_Speaker.object_first, 3.0),
    (_Speaker.opening_first, 3.0),
    (_Speaker.relation_first, 2.0),
    (_Speaker.list_first, 1.0),
    (_Speaker.place_first, 1.0),
    (_Speaker.count_first, 1.0),
)
"""The ways to begin, each with its weight."""


def say_scene(scene: Scene, draws: Draws, settings: SceneDifficulty, *, count: int = 5) -> list[str]:
    """Distinct captions of a scene, true of it; as long as there are ways left, each begins in another way.

    Args:
        scene: as `layout.draw_scene` gives it.
        draws: decides everything else.
        settings: see `SceneDifficulty`.
        count: how many.

    Raises:
        ValueError: the scene has no fact to tell, or cannot be said in so many ways.
    """
    facts = facts_of(scene)
    if not facts:
        raise ValueError("the scene has no relation between its shapes to tell")
    said: list[str] = []
    left: list[int] = []
    for _ in range(_TRIES * count):
        if len(said) == count:
            return said
        if not left:
            left = list(range(len(BEGINNINGS)))
        number = draws.weighted(left, list(accumulate(BEGINNINGS[number][1] for number in left)))
        left.remove(number)
        begin, _ = BEGINNINGS[number]
        caption = begin(_Speaker(scene, facts, draws, settings))
        if caption is not None and caption not in said:
            said.append(caption)
    raise ValueError(f"the scene cannot be said in {count} ways")


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a , b and c`."""
    return names[0] if len(names) == 1 else f"{' , '.join(names[:-1])} and {names[-1]}"

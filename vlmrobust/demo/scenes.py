"""Draw scenes of coloured shapes on a two by two grid, and ask four-option questions about them.

Everything here is a pure function of small integers: sample `index` of `samples(n, seed)` is the same for every `n`. An
eighth of all scenes is reserved: `samples` draws from it and the training of the demo model from the rest, so a sample
never shows a scene that the model was trained on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmrobust.types import Sample

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "pink": (250, 140, 190),
    "yellow": (245, 215, 40),
    "green": (44, 150, 60),
    "blue": (40, 90, 210),
    "purple": (140, 60, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
NUMBERS = ("one", "two", "three", "four")
POSITIONS = ("northwest", "northeast", "southwest", "southeast")
RELATIONS = ("left", "right", "above", "below")
KINDS = ("colour", "shape", "count", "position", "relation")
NOTHING = "nothing"
NONE = "none"

IMAGE_SIZE = 224
RESERVED = 8
"""One in this many scenes is held out from training."""


@dataclass(frozen=True)
class Thing:
    """A coloured shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def words(self) -> tuple[str, str]:
        """The two words that describe it."""
        return self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """The contents of the four cells, in the order of `POSITIONS`; None = an empty cell."""

    cells: tuple[Thing | None, ...]

    @property
    def things(self) -> list[Thing]:
        """All things, in reading order."""
        return [thing for thing in self.cells if thing is not None]

    def describe(self) -> str:
        """Return one sentence that names what every cell holds."""
        parts = [
            f"{NOTHING if thing is None else f'a {thing}'} {position}"
            for thing, position in zip(self.cells, POSITIONS, strict=True)
        ]
        return f"I see {', '.join(parts)}."

    def where(self, thing: Thing) -> str:
        """Return the position of the first such thing."""
        return POSITIONS[self.cells.index(thing)]

    def tally(self, word: str) -> str:
        """Return a running count, by cell, of the things with the word."""
        parts, count = [], 0
        for thing, position in zip(self.cells, POSITIONS, strict=True):
            count += thing is not None and word in thing.words
            parts.append(f"{NUMBERS[count - 1] if count else NONE} {position}")
        return ", ".join(parts)

    def put(self, cell: int, thing: Thing | None) -> Scene:
        """Return the scene with one cell replaced."""
        return Scene((*self.cells[:cell], thing, *self.cells[cell + 1 :]))

    def is_reserved(self) -> bool:
        """Return whether the scene is held out from training."""
        return zlib.crc32(self.describe().encode()) % RESERVED == 0


def render(scene: Scene, index: int = 0, seed: int = 0) -> Image:
    """Draw the scene; `index` and `seed` vary sizes, places and shades."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng([2, seed, index])
    scale = 2  # drawn larger and reduced: smooth edges
    background = tuple(int(v) for v in rng.integers(225, 256, 3))
    image = Image.new("RGB", (IMAGE_SIZE * scale, IMAGE_SIZE * scale), background)
    canvas = ImageDraw.Draw(image)
    cell_size = IMAGE_SIZE * scale / 2
    for cell, thing in enumerate(scene.cells):
        radius = cell_size * rng.uniform(0.24, 0.38)
        x, y = cell_size * (0.5 + rng.uniform(-0.09, 0.09, 2) + (cell % 2, cell // 2))
        shade = rng.integers(-22, 23, 3)
        if thing is not None:
            red, green, blue = (int(v) for v in np.clip(np.array(COLOURS[thing.colour]) + shade, 0, 255))
            points = [(float(x + radius * px), float(y + radius * py)) for px, py in outline(thing.shape)]
            canvas.polygon(points, fill=(red, green, blue))
    return image.reduce(scale)


def outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a shape of radius one around the origin."""

    def ring(corners: int, start: float, radii: tuple[float, ...] = (1.0,)) -> list[tuple[float, float]]:
        angles = [start + 2 * np.pi * i / corners for i in range(corners)]
        return [
            (float(radii[i % len(radii)] * np.cos(a)), float(radii[i % len(radii)] * np.sin(a)))
            for i, a in enumerate(angles)
        ]

    if shape == "circle":
        return ring(48, 0.0, (0.95,))
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)]
    if shape == "star":
        return ring(10, -np.pi / 2, (1.1, 0.45))
    if shape == "diamond":
        return [(0.0, -1.1), (0.8, 0.0), (0.0, 1.1), (-0.8, 0.0)]
    if shape == "cross":
        w = 0.33
        x = (-w, w, w, 1, 1, w, w, -w, -w, -1, -1, -w)
        return list(zip(x, x[-3:] + x[:-3], strict=True))
    raise ValueError(f"unknown shape {shape!r}; known are {', '.join(SHAPES)}")


Split = Literal["samples", "training"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """A question about a scene, with everything that can be said about each of its options.

    Attributes:
        kind: one of `KINDS`.
        text: The question.
        options: Four words, the right one among them.
        answer: The index of the right option.
        statement: What the option claims, as a clause with `{}` where the option stands.
        scenes: For each option a scene in which that option would be right (for the right one, the true scene).
        compared: The two things that a question about a relation compares.
        counted: The word whose things a question about a number counts.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    answer: int
    statement: str
    scenes: tuple[Scene, ...]
    compared: tuple[Thing, ...] = ()
    counted: str = ""

    def caption(self, option: int) -> str:
        """Return a caption that claims the option."""
        word = self.options[option]
        return f"In this image {self.statement.format(f'{word} of' if word in ('left', 'right') else word)}."

    def thought(self, option: int) -> str:
        """Return a thought that describes a scene and concludes with the option; it never names a letter."""
        scene = self.scenes[option]
        steps = []
        if self.compared:
            first, second = (f"the {thing} is {scene.where(thing)}" for thing in self.compared)
            steps.append(f"First {first}, then {second}.")
        if self.counted:
            steps.append(f"I count {scene.tally(self.counted)}.")
        return " ".join([scene.describe(), *steps, f"So the answer is {self.options[option]}."])

    def shuffled(self, rng: np.random.Generator) -> Question:
        """Return the same question with its options in random order."""
        order = [int(i) for i in rng.permutation(len(self.options))]
        return replace(
            self,
            options=tuple(self.options[i] for i in order),
            scenes=tuple(self.scenes[i] for i in order),
            answer=order.index(self.answer),
        )


def relation(first: int, second: int) -> str | None:
    """Return how cell `first` lies to cell `second`; None if they share neither a row nor a column."""
    (row, column), (other_row, other_column) = divmod(first, 2), divmod(second, 2)
    if row == other_row and column != other_column:
        return "left" if column < other_column else "right"
    if column == other_column and row != other_row:
        return "above" if row < other_row else "below"
    return None


def _pick(items: Iterable[Item], rng: np.random.Generator) -> Item:
    choices = list(items)
    return choices[int(rng.integers(len(choices)))]


def _unique(items: list[Item]) -> list[Item]:
    return [item for item in items if items.count(item) == 1]


def _fill(count: int, rng: np.random.Generator) -> Scene:
    filled = {int(i) for i in rng.permutation(len(POSITIONS))[:count]}
    return Scene(
        tuple(Thing(_pick(COLOURS, rng), _pick(SHAPES, rng)) if i in filled else None for i in range(len(POSITIONS)))
    )


def _question(kind: str, text: str, statement: str, scene_of: dict[str, Scene], answer: str) -> Question:
    options = tuple(scene_of)
    return Question(kind, text, options, options.index(answer), statement, tuple(scene_of.values()))


def _options(right: str, present: Iterable[str], words: Iterable[str], rng: np.random.Generator) -> list[str]:
    """Return the right word and three others, first those that the scene shows: being there must not give it away."""
    near = sorted(set(present) - {right})
    far = [word for word in words if word != right and word not in near]
    near = [near[i] for i in rng.permutation(len(near))]
    far = [far[i] for i in rng.permutation(len(far))]
    return [right, *(near + far)[:3]]


def _with_word(thing: Thing, word: str) -> Thing:
    return replace(thing, colour=word) if word in COLOURS else replace(thing, shape=word)


def _ask_word(place: int, rng: np.random.Generator) -> Question | None:
    """Ask for the colour (place 0) or the shape (1) of a thing by its other word."""
    scene = _fill(int(rng.integers(2, 5)), rng)
    candidates = _unique([thing.words[1 - place] for thing in scene.things])
    if not candidates:
        return None
    known = _pick(candidates, rng)
    cell, thing = next((i, t) for i, t in enumerate(scene.cells) if t is not None and known in t.words)
    words = (COLOURS, SHAPES)[place]
    options = _options(thing.words[place], (t.words[place] for t in scene.things), words, rng)
    scenes = {word: scene.put(cell, _with_word(thing, word)) for word in options}
    text = (f"What colour is the {known}?", f"Which shape is {known}?")[place]
    statement = (f"the {known} is {{}}", f"the {known} shape is a {{}}")[place]
    return _question(KINDS[place], text, statement, scenes, thing.words[place])


def _with_count(scene: Scene, word: str, count: int) -> Scene:
    """Change as few cells as possible, things before empty cells, until `count` things have the word."""
    words = tuple(COLOURS) if word in COLOURS else SHAPES
    other = words[(words.index(word) + 1) % len(words)]
    matches = [i for i, thing in enumerate(scene.cells) if thing is not None and word in thing.words]
    rest = sorted((i for i in range(len(scene.cells)) if i not in matches), key=lambda i: scene.cells[i] is None)
    for cell in matches[count:]:
        scene = scene.put(cell, _with_word(scene.cells[cell] or Thing("red", "circle"), other))
    for cell in rest[: max(0, count - len(matches))]:
        scene = scene.put(cell, _with_word(scene.cells[cell] or Thing(tuple(COLOURS)[cell], SHAPES[cell]), word))
    return scene


def _ask_count(rng: np.random.Generator) -> Question | None:
    count = int(rng.integers(1, len(NUMBERS) + 1))
    word = _pick((*COLOURS, *SHAPES), rng)
    scene = _with_count(_fill(int(rng.integers(max(2, count), 5)), rng), word, count)
    scenes = {number: _with_count(scene, word, i + 1) for i, number in enumerate(NUMBERS)}
    text, statement = f"How many {word} shapes are there?", f"the number of {word} shapes is {{}}"
    return replace(_question("count", text, statement, scenes, NUMBERS[count - 1]), counted=word)


def _ask_position(rng: np.random.Generator) -> Question | None:
    scene = _fill(int(rng.integers(2, 5)), rng)
    candidates = _unique(scene.things)
    if not candidates:
        return None
    thing = _pick(candidates, rng)
    cell = scene.cells.index(thing)
    scenes = {name: scene.put(cell, scene.cells[i]).put(i, thing) for i, name in enumerate(POSITIONS)}
    return _question("position", f"Where is the {thing}?", f"the {thing} is in the {{}}", scenes, POSITIONS[cell])


def _ask_relation(rng: np.random.Generator) -> Question | None:
    scene = _fill(int(rng.integers(2, 5)), rng)
    unique = [scene.cells.index(thing) for thing in _unique(scene.things)]
    pairs = [(i, j) for i in unique for j in unique if relation(i, j) is not None]
    if not pairs:
        return None
    here, there = _pick(pairs, rng)
    scenes = {}
    for name in RELATIONS:
        # The first arrangement of the same four cells in which the relation holds; the true one comes first.
        order = next(p for p in permutations(range(4)) if relation(p.index(here), p.index(there)) == name)
        scenes[name] = Scene(tuple(scene.cells[i] for i in order))
    answer = str(relation(here, there))
    scenes[answer] = scene
    compared = tuple(t for t in (scene.cells[here], scene.cells[there]) if t is not None)
    text = f"Where is the {compared[0]} relative to the {compared[1]}?"
    question = _question("relation", text, f"the {compared[0]} is {{}} the {compared[1]}", scenes, answer)
    return replace(question, compared=compared)


_ASK: dict[str, Callable[[np.random.Generator], Question | None]] = {
    "colour": partial(_ask_word, 0),
    "shape": partial(_ask_word, 1),
    "count": _ask_count,
    "position": _ask_position,
    "relation": _ask_relation,
}


def draw(index: int, seed: int = 0, split: Split = "samples") -> tuple[Scene, Question]:
    """Draw scene and question number `index`; kinds take turns. "samples" draws reserved scenes, "training" others."""
    kind = KINDS[index % len(KINDS)]
    rng = np.random.default_rng([0 if split == "samples" else 1, seed, index])
    while True:
        question = _ASK[kind](rng)
        if question is not None:
            scene = question.scenes[question.answer]
            if scene.is_reserved() == (split == "samples"):
                return scene, question.shuffled(rng)


def to_sample(index: int, seed: int = 0, split: Split = "samples") -> Sample:
    """Return number `index` of the draws as a `vlmrobust.Sample`, with true and false captions and thoughts."""
    from vlmrobust.types import Sample

    scene, question = draw(index, seed, split)
    wrong = [i for i in range(len(question.options)) if i != question.answer]
    return Sample(
        id=f"demo-{seed}-{index}" if split == "samples" else f"demo-training-{seed}-{index}",
        images=(render(scene, index, seed),),
        question=question.text,
        options=question.options,
        answer=question.answer,
        texts={
            "correct_caption": question.caption(question.answer),
            "wrong_caption": {i: question.caption(i) for i in wrong},
            "correct_think": question.thought(question.answer),
            "wrong_think": {i: question.thought(i) for i in wrong},
        },
        metadata={"kind": question.kind},
    )

"""Describe and draw scenes of coloured shapes on a two by two grid."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

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

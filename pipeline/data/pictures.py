"""The demo's covers: colour and pattern tell the style, the shape a group of tastes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64  # pixels
GROUP = 3  # tastes that share a shape
HUES = (28, 140, 85, 200)  # of 256: the background of each style


class Drawing(NamedTuple):
    """A way of drawing."""

    turn: int  # added to every hue
    saturation: int
    value: int
    filled: bool  # shapes are filled, or only outlined


DRAWINGS = {"plain": Drawing(0, 150, 210, True), "outlined": Drawing(30, 200, 110, False)}


def _circle(x: float, y: float, r: float) -> list[tuple[float, float]]:
    return _star(x, y, r, 24, 1.0)


def _star(x: float, y: float, r: float, tips: int, waist: float) -> list[tuple[float, float]]:
    """Give a star's corners; waist = share of the radius between two tips."""
    angles = np.arange(2 * tips) * np.pi / tips
    radii = np.where(np.arange(2 * tips) % 2, r * waist, r)
    return [
        (x + a, y + b) for a, b in zip(radii * np.sin(angles), radii * -np.cos(angles), strict=True)
    ]


SHAPES: tuple[Callable[[float, float, float], list[tuple[float, float]]], ...] = (
    _circle,
    lambda x, y, r: _star(x, y, r, 3, 0.5),  # a triangle: the waist lies on its sides
    lambda x, y, r: [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
    lambda x, y, r: _star(x, y, r, 5, 0.4),
)


def draw(taste: int, style: int, drawing: str, rng: np.random.Generator) -> Image.Image:
    """Draw a cover of SIDE x SIDE pixels: a pattern behind, and a shape at a place of its own."""
    way = DRAWINGS[drawing]
    hue = (HUES[style] + way.turn + int(rng.integers(-12, 13))) % 256
    value = way.value + int(rng.integers(-25, 26))
    picture = Image.new("HSV", (SIDE, SIDE), (hue, way.saturation, value)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    darker = Image.new("HSV", (1, 1), (hue, way.saturation, value * 4 // 5)).convert("RGB")
    _pattern(pen, style, darker.tobytes(), rng)

    x, y = rng.uniform(24, 40, 2)
    corners = SHAPES[taste // GROUP](float(x), float(y), float(rng.uniform(12, 20)))
    grey = int(rng.integers(215, 256)) if way.filled else int(rng.integers(180, 256))
    ink = (grey, grey, grey)
    pen.polygon(corners, fill=ink if way.filled else None, outline=ink, width=3)
    noise = rng.normal(0, 6, (SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def _pattern(pen: ImageDraw.ImageDraw, style: int, colour: bytes, rng: np.random.Generator) -> None:
    """Draw the pattern of a style: stripes down, stripes across, dots, none."""
    ink = tuple(colour)
    shift = int(rng.integers(0, 8))
    for at in range(shift - 8, SIDE, 12):
        if style == 0:
            pen.rectangle((at, 0, at + 5, SIDE), fill=ink)
        elif style == 1:
            pen.rectangle((0, at, SIDE, at + 5), fill=ink)
        elif style == 2:  # noqa: PLR2004  # the third of the four
            for across in range(shift - 8, SIDE, 12):
                pen.ellipse((at, across, at + 6, across + 6), fill=ink)

"""Domains of any size with the lengths and the popularity of Bili_2M, in NineRec's files.

python -m benchmarks.prepare_data FOLDER INTERACTIONS
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from PIL import Image

PRESET = Path(__file__).parents[1] / "presets" / "films-fashion.yaml"
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in

# What NineRec publishes of Bili_2M.
USERS, ITEMS, INTERACTIONS = 2_000_000, 144_146, 24_497_157
COVER = (1920, 1080)  # pixels
ZH, EN = 22, 19  # characters of a Chinese title, words of an English one

SEED = 0
SHORTEST = 5  # items of a history; how many more there are is drawn from a geometric distribution
SKEW = 0.8  # the item of rank r is drawn with r^-0.8
TIMES = (1_500_000_000, 1_600_000_000)  # seconds
CHUNK = 1_000_000  # rows drawn and written at once
WORDS = 5_000
GRAIN = 16  # pixels of a cover that are drawn as one, and smoothed
DRAWN = 32  # covers; the rest repeats their files


def scaled(interactions: int) -> tuple[int, int]:
    """Say how many users and items a domain of so many interactions has, Bili_2M's a share."""
    share = interactions / INTERACTIONS
    return max(20, round(USERS * share)), max(20, round(ITEMS * share))


def main(
    folder: Annotated[Path, typer.Argument(help="where to; its name is the domain's")],
    interactions: Annotated[int, typer.Argument(help="about so many")],
) -> None:
    """Write D_pair.csv and D_item.csv, D being the folder's name; same size, same bytes.

    Rows stand in no order, neither of users nor of time: the hardest to put in order.
    """
    users, items = scaled(interactions)
    rng = np.random.default_rng([SEED, interactions])
    folder.mkdir(parents=True)
    _items(folder / f"{folder.name}_item.csv", items, rng)

    mean = interactions / users
    lengths = SHORTEST + rng.geometric(1 / (mean - SHORTEST + 1), users) - 1
    owners = np.repeat(rng.permutation(users).astype(np.int32), lengths)
    rng.shuffle(owners)
    share = np.arange(1, items + 1) ** -SKEW
    below = np.cumsum(share / share.sum())
    number = rng.permutation(items)  # of an item, by its rank
    with (folder / f"{folder.name}_pair.csv").open("wb") as file:
        for first in range(0, len(owners), CHUNK):
            some = owners[first : first + CHUNK]
            ranks = np.searchsorted(below[:-1], rng.random(len(some)), "right")
            rows = {
                "item": number[ranks] + 1,
                "user": some + 1,
                "timestamp": rng.integers(*TIMES, len(some)),
            }
            pl.DataFrame(rows).write_csv(file, include_header=False)


def covers(folder: Path, count: int) -> None:
    """Write JPEGs of COVER's size: smoothed noise."""
    rng = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"{number}.jpg"
        if number >= DRAWN:
            path.write_bytes((folder / f"{number % DRAWN}.jpg").read_bytes())
            continue
        coarse = rng.integers(0, 256, (COVER[1] // GRAIN, COVER[0] // GRAIN, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize(COVER, Image.Resampling.BICUBIC)
        smooth.save(path, "JPEG", quality=80)


def _items(path: Path, items: int, rng: np.random.Generator) -> None:
    letters = rng.integers(ord("a"), ord("z") + 1, (WORDS, 6))
    words = np.array(["".join(map(chr, word)) for word in letters])
    titles = {
        "id": rng.permutation(items) + 1,
        "zh": [
            "".join(map(chr, title)) for title in rng.integers(0x4E00, 0x9FA5, (items, ZH)).tolist()
        ],
        "en": [" ".join(words[title]) for title in rng.integers(0, WORDS, (items, EN))],
    }
    pl.DataFrame(titles).write_csv(path, include_header=False)


if __name__ == "__main__":
    typer.run(main)

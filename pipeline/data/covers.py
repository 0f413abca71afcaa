"""Covers at one size, packed into one memory-mapped array: written once, read at random."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from pipeline.data import missing
from pipeline.data.files import Stop
from pipeline.params import Section

SUFFIXES = (".jpg", ".jpeg", ".png")  # the first wins where an item has several
# What a file may really be, whatever its suffix says; formats that call other programs stay out.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # 150 MB as RGB; a header that announces more is refused, not decoded

WITHOUT = (
    "A domain without covers can serve content text only, not image or both: leave its covers "
    'empty ("") and take it out of domains.image and domains.both in params.yaml'
)


class Covers(Section):
    """The section `covers`."""

    size: int = Field(ge=1)  # pixels of a side; the aspect is not kept
    max_missing: float = Field(ge=0, le=1)  # the largest share of items without a readable cover


class Pack(NamedTuple):
    """The covers of a domain."""

    pixels: np.ndarray  # [M, S, S, 3] uint8, RGB, mapped into memory
    rows: np.ndarray  # [N + 1] int32, an item's row of pixels; -1 where it has no readable cover


def listing(folder: Path) -> list[str]:
    """List the image files of a folder: names in a fixed order.

    Raises:
        Stop: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise Stop(f"{folder}: no such folder of covers; name the right one. {WITHOUT}")
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if _suffix(e.name) in SUFFIXES and e.is_file()]
    if not names:
        rule = f"the rule is <id>{'|'.join(SUFFIXES)}"
        raise Stop(f"{folder}: not one cover in the folder; {rule}. {WITHOUT}")
    return sorted(names, key=lambda name: (SUFFIXES.index(_suffix(name)), name))


def by_id(names: Sequence[str]) -> dict[str, str]:
    """Map item id -> file name, for covers called <id>.jpg; names come from `listing`."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name[: -len(_suffix(name))], name)
    return found


def pack(folder: Path, names: Sequence[str | None], size: int, out: Path) -> dict[int, str]:
    """Decode each item's cover to size x size RGB and write pixels.npy and rows.npy.

    A cover is found by its name in the folder's listing, so that no name can lead elsewhere.

    Args:
        folder: the folder of covers.
        names: name i - 1 is the file of item i; None for an item without one.
        size: pixels of a side.
        out: the folder to write in.

    Returns:
        Item -> why its cover could not be read.
    """
    there = set(listing(folder))
    items = [item for item, name in enumerate(names, 1) if name is not None]
    out.mkdir(parents=True, exist_ok=True)
    shape = (len(items), size, size, 3)
    pixels = np.lib.format.open_memmap(out / "pixels.npy", "w+", np.uint8, shape)

    def decode(row: int) -> str | None:
        name = str(names[items[row] - 1])
        if name not in there:
            return f"{name!r} is not in {folder}"
        try:
            pixels[row] = read(folder / name, size)
        except Exception as error:  # noqa: BLE001  # fed with garbage, decoders raise anything
            return f"{name!r}: {_reason(error)}"
        return None

    Image.init()  # load the decoders before the threads ask for them
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore")  # what Pillow warns of is refused in `read`, or harmless
        reasons = list(threads.map(decode, range(len(items))))
    pixels.flush()
    broken = {item: why for item, why in zip(items, reasons, strict=True) if why is not None}
    rows = np.full(len(names) + 1, -1, np.int32)
    rows[items] = np.where([why is None for why in reasons], np.arange(len(items)), -1)
    np.save(out / "rows.npy", rows)
    return broken


def load(folder: Path) -> Pack:
    """Open packed covers; the pixels stay on disk."""
    return Pack(np.load(folder / "pixels.npy", mmap_mode="r"), np.load(folder / "rows.npy"))


def card(
    domain: str, items: pl.DataFrame, broken: dict[int, str], settings: Covers
) -> dict[str, Any]:
    """Count items without a readable cover (items as in `tables.ITEMS`), and name broken files.

    Raises:
        Stop: no item has a readable cover, or more lack one than max_missing allows.
    """
    absent = items["cover"].is_null().to_numpy().copy()
    absent[[item - 1 for item in broken]] = True
    missing_ids = items["id"].filter(pl.Series(absent)).to_list()
    first = f" The first that is broken: {next(iter(broken.values()))}." if broken else ""
    if absent.all():
        texts = items["text"].count()
        serves = "content text only" if texts else "no content: it has no text either"
        raise Stop(
            f"{domain}: not one of its {len(items):,} items has a readable cover, so it can serve "
            f"{serves}, not image or both.{first} Take it out of domains.image and domains.both "
            "in params.yaml, or bring its covers"
        )
    missing.check(
        f"{domain}: no readable cover", missing_ids, len(items), settings.max_missing,
        f"Bring the covers, or raise covers.max_missing in params.yaml.{first}",
    )  # fmt: skip
    return {
        "domain": domain,
        "size": settings.size,
        "items": len(items),
        "missing": len(missing_ids),
        "broken": {items["id"][item - 1]: why for item, why in broken.items()},
    }


def read(path: Path, size: int) -> np.ndarray:
    """Decode an image to [size, size, 3] uint8 RGB: upright, on white, bilinear.

    Raises:
        ValueError: the file is empty or announces more than MAX_PIXELS.
        Exception: whatever the decoder raises on a file that is no whole image.
    """
    if path.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}: not decoded")
        image.draft(None, (2 * size, 2 * size))  # JPEGs far larger than needed decode smaller
        upright = ImageOps.exif_transpose(image)
        return np.asarray(_rgb(upright).resize((size, size), Image.Resampling.BILINEAR))


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; 16 bits become 8, what is transparent becomes white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64) / 257  # 65,535 -> 255
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        top = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", top.size, "white"), top).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels: not decoded"
    return str(error) or type(error).__name__


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()

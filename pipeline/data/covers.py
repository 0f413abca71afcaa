"""Covers at one size, packed into one memory-mapped array: written once, read at random."""

import os
import sys
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from pydantic import Field

from pipeline.data import decoding, files, ids, missing
from pipeline.data.files import Stop
from pipeline.data.progress import Progress
from pipeline.params import Section

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # the first wins where an item has several
MAX_THREADS = 4
BLOCK = 1 << 24  # bytes written at once
DIGESTS = pl.Schema({"cover": pl.String})  # sha256 of the cover's file, hex; null: none, or broken

WITHOUT = (
    "A domain without covers can serve content text only, not image or both: leave its covers "
    'empty ("") and take it out of domains.image and domains.both in params.yaml'
)


class Covers(Section):
    """The section `covers`."""

    pixels: int = Field(ge=1)  # of a side; the aspect is not kept
    max_missing: float = Field(ge=0, le=1)  # the largest share of items without a readable cover


class Pack(NamedTuple):
    """The covers of a domain."""

    pixels: np.ndarray  # [n, S, S, 3] uint8, RGB, mapped into memory
    rows: np.ndarray  # [N + 1] int32, an item's row of pixels; -1 where it has no readable cover


class Packed(NamedTuple):
    """What became of the items' covers."""

    broken: dict[int, str]  # item -> why its cover could not be read
    digests: pl.DataFrame  # N rows of DIGESTS, row i - 1 is item i


def listing(folder: Path, advice: str = f"Name the right one. {WITHOUT}") -> list[str]:
    """List the image files of a folder: names in a fixed order.

    Args:
        folder: the covers'.
        advice: what to do where there is none, for the message.

    Raises:
        Stop: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise Stop(f"{folder}: no such folder of covers. {advice}")
    with os.scandir(folder) as entries:
        all_there = [*entries]
    found = [e.name for e in all_there if _suffix(e.name) in SUFFIXES and e.is_file()]
    names = [name for name in found if _is_text(name)]
    if len(names) < len(found):
        skipped = f"{len(found) - len(names):,} file names that are not UTF-8 were skipped"
        sys.stderr.write(f"covers: warning: {folder}: {skipped}; no item can be called so\n")
    if not names:
        rule = f"the rule is <id>{'|'.join(SUFFIXES)}"
        below = next((e.name for e in all_there if e.is_dir()), None)
        if below is not None:
            rule += f", and folders in it, such as {below}, are not searched: put all in one"
        raise Stop(f"{folder}: not one cover in the folder; {rule}. {advice}")
    return sorted(names, key=lambda name: (SUFFIXES.index(_suffix(name)), name))


def by_id(names: Sequence[str]) -> dict[str, str]:
    """Map item id -> file name, for covers called <id>.jpg; names come from `listing`.

    An id in composed letters leads to its file too, where no other is called so.
    """
    stems = [name[: -len(_suffix(name))] for name in names]
    found: dict[str, str] = {}
    for ids_of in (stems, map(_composed, stems)):
        for item, name in zip(ids_of, names, strict=True):
            found.setdefault(item, name)
    return found


def of(found: Mapping[str, str], item: str) -> str | None:
    """Name an item's file, by what `by_id` found; None if there is none."""
    return found.get(item) or found.get(_composed(item))


def _composed(name: str) -> str:
    """Write a letter and its accent as one: macOS writes the names of files as two."""
    return unicodedata.normalize("NFC", name)


def names(items: pl.DataFrame, listed: Sequence[str]) -> list[str | None]:
    """Name each item's cover: the file that the item table names, else <id> with one of SUFFIXES.

    Args:
        items: N rows of `tables.ITEMS`.
        listed: what `listing` found.

    Returns:
        Name i - 1 is that of item i, None where there is none; names that the table gives may be
        any text, and need not be listed.
    """
    found = by_id(listed)
    return [
        of(found, item) if named is None else named or None
        for item, named in items.select("id", "cover").iter_rows()
    ]


def pack(
    folder: Path, names: Sequence[str | None], listed: Sequence[str], size: int, out: Path
) -> Packed:
    """Decode each item's cover to size x size RGB and write pixels.npy and rows.npy.

    A cover is found by its name in the folder's listing, so that no name can lead elsewhere.

    Args:
        folder: the folder of covers.
        names: name i - 1 is the file of item i; None for an item without one.
        listed: what `listing` found in the folder.
        size: pixels of a side.
        out: the folder to write in.
    """
    there = set(listed)
    items = [item for item, name in enumerate(names, 1) if name is not None]
    out.mkdir(parents=True, exist_ok=True)
    shape = (len(items), size, size, 3)
    pixels = np.lib.format.open_memmap(out / "pixels.npy", "w+", np.uint8, shape)
    _take_room(out / "pixels.npy")
    broken: dict[int, str] = {}
    digests: list[str | None] = [None] * len(names)

    def decode(row: int) -> None:
        item, name = items[row], str(names[items[row] - 1])
        if name not in there:
            broken[item] = f"{name!r} is not in {folder}"
            return
        try:
            pixels[row] = decoding.read(folder / name, size)
            digests[item - 1] = files.sha256(folder / name)
        except decoding.CoverError as error:
            broken[item] = f"{name!r}: {error}"

    progress = Progress("covers", len(items))
    Image.init()  # load the decoders before the threads ask for them
    with warnings.catch_warnings(), ThreadPoolExecutor(at_once()) as threads:
        warnings.simplefilter("ignore")  # what Pillow warns of is refused in `read`, or harmless
        for _ in threads.map(decode, range(len(items))):
            progress.advance(1)  # what is raised there is raised here
    pixels.flush()
    rows = np.full(len(names) + 1, -1, np.int32)
    rows[items] = [-1 if item in broken else row for row, item in enumerate(items)]
    np.save(out / "rows.npy", rows)
    return Packed(dict(sorted(broken.items())), pl.DataFrame({"cover": digests}, DIGESTS))


def _take_room(file: Path) -> None:
    """Take the room on disk that a file maps: if it is full, this says so; writing to a map kills.

    Raises:
        OSError: there is too little.
    """
    size = file.stat().st_size
    with file.open("rb+") as opened:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(opened.fileno(), 0, size)
            return
        while part := opened.read(BLOCK):  # what is not there yet reads as 0
            opened.seek(-len(part), os.SEEK_CUR)
            opened.write(part)


def at_once() -> int:
    """Say how many covers are decoded at once: each may hold hundreds of MB."""
    return min(os.cpu_count() or 1, MAX_THREADS)


def load(folder: Path) -> Pack:
    """Open packed covers; the pixels stay on disk.

    Raises:
        Stop: the folder holds none.
    """
    if not (folder / "rows.npy").is_file():
        raise Stop(f"{folder} holds no packed covers: run the stage covers, or name another folder")
    return Pack(np.load(folder / "pixels.npy", mmap_mode="r"), np.load(folder / "rows.npy"))


def write_digests(folder: Path, digests: pl.DataFrame) -> None:
    """Write the covers' digests, by which items that domains share are found: digests.parquet."""
    digests.match_to_schema(DIGESTS).write_parquet(folder / "digests.parquet")


def read_digests(folder: Path) -> pl.DataFrame:
    """Read the covers' digests: N rows of DIGESTS, row i - 1 is item i."""
    return pl.read_parquet(folder / "digests.parquet")


def card(
    domain: str, items: pl.DataFrame, packed: Packed, listed: Sequence[str], settings: Covers
) -> dict[str, Any]:
    """Count items without a readable cover, and name broken files.

    Args:
        domain: the domain's name.
        items: N rows of `tables.ITEMS`.
        packed: what `pack` found.
        listed: what `listing` found.
        settings: the section of params.yaml.

    Raises:
        Stop: no item has a readable cover, or more lack one than max_missing allows.
    """
    broken, absent = packed.broken, packed.digests["cover"].is_null()
    missing_ids = items["id"].filter(absent).to_list()
    hint = f" The first that is broken: {next(iter(broken.values()))}." if broken else ""
    unnamed = items.filter(absent, pl.col("cover").is_null())["id"]
    hint += ids.spelling(unnamed, pl.Series([*by_id(listed)], dtype=pl.String), "of a cover")
    if absent.all():
        texts = items["text"].count()
        serves = "content text only" if texts else "no content: it has no text either"
        if not broken and len(unnamed):
            one, other = f"{unnamed[0]}{SUFFIXES[0]}", listed[0]
            hint = hint or f" The first was looked for as {one!r}, and there are such as {other!r}."
        elif not broken:
            hint = " The item table's column of covers (prepare.table.cover) names none."
        raise Stop(
            f"{domain}: not one of its {len(items):,} items has a readable cover, so it can serve "
            f"{serves}, not image or both.{hint} Take it out of domains.image and domains.both "
            "in params.yaml, or bring its covers"
        )
    missing.check(
        f"{domain}: no readable cover", missing_ids, len(items), settings.max_missing,
        f"Bring the covers, or raise covers.max_missing in params.yaml.{hint}",
    )  # fmt: skip
    return {
        "domain": domain,
        "pixels": settings.pixels,
        "items": len(items),
        "missing": len(missing_ids),
        "broken": {items["id"][item - 1]: why for item, why in broken.items()},
    }


def _is_text(name: str) -> bool:
    """Tell whether a file's name is UTF-8: what is not can be no item's id."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()

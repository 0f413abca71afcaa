"""Which covers of a data set are missing or broken, each decoded as the pipeline decodes it."""

import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.data import covers, decoding, files
from pipeline.data.progress import Progress

SEED = 0  # of a sample


class Checked(NamedTuple):
    """What became of the items' covers."""

    missing: list[str]  # ids of the items without one
    broken: dict[str, str]  # file name -> why it can't be read
    decoded: int  # covers that were decoded, now or before
    rate: float  # covers a second, now; 0 where none was decoded
    fault: str  # why there are none at all; ""
    wanted: bool = True  # whether they were looked for


UNWANTED = Checked([], {}, decoded=0, rate=0.0, fault="", wanted=False)


def check(
    name: str,
    folder: Path,
    advice: str,
    items: Sequence[str],
    most: int | None,
    size: int,
    threads: int,
    known: dict[Path, str | None],
) -> Checked:
    """Look for each item's cover, and decode those there are, or a sample of them.

    Args:
        name: the data set's.
        folder: the folder of covers.
        advice: what to do where it holds none, for the fault.
        items: the items' ids.
        most: how many covers to decode, drawn at random; None: all.
        size: pixels of a side that the pipeline will make of them.
        threads: that decode at once; 0: as many as `covers.pack` has.
        known: what was found of a file before, which is not decoded again; added to.
    """
    try:
        found = covers.by_id(covers.listing(folder, advice))
    except files.Stop as stop:
        return Checked([*items], {}, decoded=0, rate=0.0, fault=str(stop))
    files_of = [(item, covers.of(found, item)) for item in items]
    paths = [folder / name for _, name in files_of if name is not None]
    missing = [item for item, name in files_of if name is None]
    if most is not None and most < len(paths):
        drawn = np.sort(np.random.default_rng(SEED).permutation(len(paths))[:most])
        paths = [paths[place] for place in drawn]
    new = [path for path in paths if path not in known]
    began = time.monotonic()
    progress = Progress(f"verify: {name}, covers", len(new))
    Image.init()  # load the decoders before the threads ask for them
    workers = ThreadPoolExecutor(threads or covers.at_once())
    with warnings.catch_warnings(), workers:
        warnings.simplefilter("ignore")  # what Pillow warns of is refused in `read`, or harmless
        for path, why in zip(new, workers.map(lambda p: _why_not(p, size), new), strict=True):
            known[path] = why
            progress.advance(1)
    broken = {path.name: why for path in paths if (why := known[path]) is not None}
    rate = len(new) / (time.monotonic() - began)
    return Checked(missing, broken, len(paths), rate, fault="")


def _why_not(path: Path, size: int) -> str | None:
    """Say why a cover can't be read; None if it can."""
    try:
        decoding.read(path, size)
    except decoding.CoverError as error:
        return str(error)
    return None

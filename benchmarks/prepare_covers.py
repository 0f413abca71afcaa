"""Covers of Bili_2M's size: how fast they are packed, and read at random."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import measure, prepare_data
from pipeline.data import covers

SIDE = 224  # pixels
READS, BATCH = 8192, 256  # covers that are read at random, and at once


class Timed(NamedTuple):
    """How long something took."""

    wall: float  # seconds
    cpu: float  # seconds of all threads


class Found(NamedTuple):
    """What covers cost."""

    count: int  # that were packed
    file_bytes: int  # of a cover's JPEG
    pack: list[Timed]  # a repeat; on all cores
    reads: list[Timed]  # a repeat; of READS covers, in one thread


def run(folder: Path, count: int, repeats: int) -> Found:
    """Pack so many covers, and read them at random while they are in the page cache."""
    jpegs = folder / "covers"
    prepare_data.covers(jpegs, count)
    names = covers.listing(jpegs)
    found = Found(count, sum(file.stat().st_size for file in jpegs.iterdir()) // count, [], [])
    while len(found.pack) < measure.due({"pack": [done.wall for done in found.pack]}, repeats):
        out = folder / f"packed{len(found.pack)}"
        found.pack.append(timed(lambda out=out: covers.pack(jpegs, names, names, SIDE, out)))
        found.reads.append(timed(lambda out=out: read(covers.load(out), np.random.default_rng(0))))
        measure.say(f"covers: {count:,} packed in {found.pack[-1].wall:.1f} s")
    return found


def read(pack: covers.Pack, rng: np.random.Generator) -> None:
    """Copy covers out of the memory map, in no order."""
    for items in rng.integers(1, len(pack.rows), (READS // BATCH, BATCH)):
        np.array(pack.pixels[pack.rows[items]])


def timed(call: Callable[[], object]) -> Timed:
    """Time a call."""
    began = Timed(time.perf_counter(), time.process_time())
    call()
    return Timed(time.perf_counter() - began.wall, time.process_time() - began.cpu)

"""Vectors on disk, shard by shard, until all are there: a kill costs one shard."""

import os
from pathlib import Path

import numpy as np

from pipeline.content import processes
from pipeline.data import files

SHARD = 2048  # items, about; a shard is whole batches


class Spool:
    """One modality's shards, some of them perhaps left by a run that was killed."""

    def __init__(self, folder: Path, items: np.ndarray, batch: int) -> None:
        """Divide items into shards, the same ones whoever encodes them.

        Args:
            folder: of these items and batches alone.
            items: [n], in the order they are encoded in.
            batch: items a forward pass.
        """
        size = batch * max(1, SHARD // batch)
        self.folder, self.items, self.batch = folder, items, batch
        self.shards = [items[start : start + size] for start in range(0, len(items), size)]
        folder.mkdir(parents=True, exist_ok=True)

    def batches(self, number: int) -> list[np.ndarray]:
        """Divide a shard's items into batches."""
        shard = self.shards[number]
        return [shard[start : start + self.batch] for start in range(0, len(shard), self.batch)]

    def missing(self) -> list[int]:
        """List the shards that are not whole."""
        numbers = range(len(self.shards))
        return [n for n in numbers if not _is_whole(self._path(n), len(self.shards[n]))]

    def seconds(self) -> float:
        """Give the seconds spent so far, those of killed runs up to their last shard included."""
        said = [files.read_json(path) for path in self.folder.glob("seconds-*.json")]
        return max(said, default=0.0)  # processes work at the same time

    def write(self, number: int, vectors: np.ndarray, seconds: float) -> None:
        """Keep a shard's vectors, and the seconds spent until now."""
        # Before the shard: where all shards are there, no time is missing.
        files.write_json(self.folder / f"seconds-{processes.rank()}.json", seconds)
        # A process of a killed run may still be writing the same shard.
        part = self._path(number).with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, vectors)
        part.replace(self._path(number))

    def whole(self, rows: int, width: int) -> np.ndarray:
        """Put all shards together: [rows, width] float32, 0 for what is none of the items."""
        whole = np.zeros((rows, width), dtype=np.float32)
        for number, shard in enumerate(self.shards):
            whole[shard] = np.load(self._path(number))
        return whole

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npy"


def _is_whole(path: Path, n: int) -> bool:
    try:
        return len(np.load(path, mmap_mode="r")) == n
    except (OSError, ValueError, EOFError):  # the last where nothing is in it
        return False

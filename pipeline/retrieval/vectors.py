"""What a run leaves for retrieval: item and query vectors, once or once a seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data import files


class Trained(NamedTuple):
    """One trained model's vectors."""

    seed: int
    capped: bool  # whether it stopped at its epoch or time cap before its patience
    items: np.ndarray  # [N + 1, D] float32, mapped from disk
    queries: dict[str, np.ndarray]  # valid, test: [U, D] float32, mapped from disk


def folders(run: Path, seeds: Sequence[int]) -> list[Path]:
    """List a run's folders: itself, or one a seed where it trained several.

    Raises:
        Stop: there is no result of the run, or of one of the seeds.
    """
    found = [run] if (run / "run.json").is_file() else [run / str(seed) for seed in seeds]
    for folder in found:
        if not (folder / "run.json").is_file():
            raise files.Stop(
                f"{folder} holds no run: run.json is missing. Take the run out of `runs` in "
                "params.yaml, or run `dvc repro`."
            )
    return found


def load(folder: Path, n_items: int, n_users: int) -> Trained:
    """Open one trained model's vectors.

    Raises:
        Stop: they belong to other items or users than the prepared domain's.
    """
    described = files.read_json(folder / "run.json")
    items = np.load(folder / "items.npy", mmap_mode="r")
    queries = {
        part: np.load(folder / f"queries_{part}.npy", mmap_mode="r") for part in ("valid", "test")
    }
    for name, vectors, rows in [
        ("items.npy", items, n_items + 1),
        *[(f"queries_{part}.npy", vectors, n_users) for part, vectors in queries.items()],
    ]:
        if len(vectors) != rows:
            raise files.Stop(
                f"{folder / name} has {len(vectors)} rows, the prepared domain asks for {rows}: "
                "they come from different data. Run `dvc repro`."
            )
    return Trained(described["seed"], described["capped"], items, queries)

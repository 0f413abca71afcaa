"""What a run leaves for retrieval: item and query vectors, once or once a seed; are they sound?"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.data import files
from pipeline.data.sequences import PAD
from pipeline.data.split import HeldOut


class NotFiniteError(ValueError):
    """A vector holds NaN or infinity."""


class Trained(NamedTuple):
    """One trained model's vectors."""

    seed: int
    capped: bool  # whether it stopped at its cap of epochs before its patience
    items: np.ndarray  # [N + 1, D] float32, mapped from disk
    queries: dict[str, np.ndarray]  # valid, test: [U, D] float32, mapped from disk


def folders(run: Path, seeds: Sequence[int] | None = None) -> list[Path]:
    """List a run's folders: itself, or one a seed where it trained several.

    Args:
        run: its folder.
        seeds: those it must have, in this order; None for all it has, by their numbers.

    Raises:
        Stop: there is no result of the run, or of one of the seeds.
    """
    if (run / "run.json").is_file():
        return [run]
    if seeds is None:
        there = [path.parent for path in run.glob("*/run.json") if path.parent.name.isdecimal()]
        if not there:
            raise files.Stop(
                f"{run} holds no run: there is no run.json in it, nor in a folder of a seed, "
                "called by its number; the rule is artifacts/runs/<group>/<run>, as `dvc repro` "
                "writes them; name the run, not the group"
            )
        return sorted(there, key=lambda folder: int(folder.name))
    found = [run / str(seed) for seed in seeds]
    for folder in found:
        if not (folder / "run.json").is_file():
            raise files.Stop(
                f"{folder} holds no run: run.json is missing. Run `dvc repro`, or take the run or "
                "the seed out of params.yaml"
            )
    return found


def digest(ids: pl.Series) -> str:
    """Name a table's ids in their order: SHA-256 of their list as JSON, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(ids.to_list()).encode()).hexdigest()


def load(folder: Path, n_items: int, n_users: int) -> Trained:
    """Open one trained model's vectors.

    Raises:
        Stop: there are none, or they belong to other items or users than the prepared domain's.
    """
    if not (folder / "items.npy").is_file():
        raise files.Stop(
            f"{folder} has no vectors: {folder / 'items.npy'} is missing; name a run on a target "
            "(a source's model comes without them)"
        )
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


def check(
    queries: np.ndarray, items: np.ndarray, held_out: HeldOut, candidates: np.ndarray
) -> None:
    """See that there is a vector for every user and item, and something to retrieve.

    Raises:
        ValueError: there is not.
    """
    if len(queries) != len(held_out.items) or len(items) != len(candidates):
        raise ValueError(
            f"{len(queries)} queries for {len(held_out.items)} users and {len(items)} item vectors "
            f"for a catalogue of {len(candidates)}: there must be one each; give the vectors that "
            "were made for this domain"
        )
    if candidates[PAD] or not candidates.any():
        raise ValueError(
            f"{int(candidates.sum())} candidates, PAD {'is' if candidates[0] else 'is not'} one of "
            "them: there must be at least one item and no PAD; take them from split.candidates"
        )


def norms(name: str, vectors: np.ndarray) -> np.ndarray:
    """Give the lengths of vectors [n, D]: [n] float64.

    Raises:
        NotFiniteError: one holds NaN or infinity.
    """
    squared = np.vecdot(vectors, vectors).astype(np.float64)
    if not np.isfinite(squared).all():
        wrong = int((~np.isfinite(vectors).all(axis=1)).sum())
        if wrong:
            raise NotFiniteError(
                f"{wrong:,} of {len(vectors):,} {name} vectors hold NaN or infinity, and all must "
                "be finite: the model has diverged; train it with a lower learning rate"
            )
    return np.asarray(np.sqrt(squared))

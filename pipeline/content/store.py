"""Embeddings on disk, and the passport that says what they stand for. No torch here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data import files

PASSPORT = "passport.json"
FLOOR = 1e-2  # of the global scale: a dimension that varies less says nothing (MiniLM has three)
CHUNK = 8192  # vectors at a time: float64 copies stay small


class Embedded(NamedTuple):
    """A domain's embeddings in one modality, with the statistics that standardise them."""

    vectors: np.ndarray  # [N + 1, C] float32, mapped from disk; 0 for PAD and missing items
    present: np.ndarray  # [N + 1] bool
    mean: np.ndarray  # [C] float32, over the items present
    sd: np.ndarray  # [C] float32, never 0
    scale: float  # root mean square of all dimensions' standard deviations, never 0


class Statistics(NamedTuple):
    """What standardises embeddings."""

    mean: np.ndarray  # [C] float64
    sd: np.ndarray  # [C] float64
    scale: float


def statistics(vectors: np.ndarray, present: np.ndarray) -> Statistics:
    """Compute each dimension's mean and standard deviation and one scale for all.

    In float64, over the items present. A dimension that varies by less than FLOOR of the scale gets
    the scale as its deviation: divided by its own, rounding would turn into noise, and an encoder's
    first steps, which move all dimensions alike, into a shift that drowns the others. Where all
    items are equal, deviations and scale are 1.
    """
    items = np.flatnonzero(present)
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    total = sum(vectors[chunk].sum(axis=0, dtype=np.float64) for chunk in chunks)
    mean = total / len(items)
    squares = sum(((vectors[chunk] - mean) ** 2).sum(axis=0) for chunk in chunks)
    variance = squares / len(items)
    scale = float(np.sqrt(variance.mean()))
    if scale <= np.finfo(np.float32).eps * float(np.abs(mean).max()):
        return Statistics(mean, np.ones_like(mean), 1.0)
    sd = np.sqrt(variance)
    return Statistics(mean, np.where(sd < FLOOR * scale, scale, sd), scale)


def save(
    folder: Path, vectors: np.ndarray, present: np.ndarray, about: Mapping[str, object]
) -> None:
    """Write one modality's embeddings into a folder that nobody reads yet.

    Args:
        folder: an empty folder, or the one to make.
        vectors: [N + 1, C] float32, 0 where nothing is present.
        present: [N + 1] bool, at least one of them.
        about: modality, encoder, weights, dtype, inputs: what the passport has to say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mean, sd, scale = statistics(vectors, present)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "present.npy", present)
    measured = {"mean": mean.tolist(), "sd": sd.tolist(), "scale": scale}
    passport = {
        **about,
        "width": vectors.shape[1],
        "items": len(vectors) - 1,
        "statistics": measured,
    }
    files.write_json(folder / PASSPORT, passport)


def join(parts: Mapping[str, Path], out: Path) -> None:
    """Write the passport of several modalities: it points at their folders, no vector is copied.

    Raises:
        files.Stop: a part is missing, of another modality, or of another item table.
    """
    entries = {}
    for modality, folder in sorted(parts.items()):
        found = passport(folder)
        if found.get("modality") != modality:
            raise files.Stop(f"{folder} holds {found.get('modality')}, not {modality} embeddings.")
        entries[modality] = {
            "folder": Path(os.path.relpath(folder, out)).as_posix(),
            "passport": files.sha256(folder / PASSPORT),
            "items": found["items"],
        }
    if len({entry["items"] for entry in entries.values()}) > 1:
        counts = ", ".join(f"{parts[m]}: {entry['items']}" for m, entry in entries.items())
        raise files.Stop(f"embeddings of different item tables can't be joined ({counts} items).")
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / PASSPORT, {"parts": entries})


def passport(folder: Path) -> dict[str, Any]:
    """Read the passport of an embeddings folder.

    Raises:
        files.Stop: there is none.
    """
    path = folder / PASSPORT
    if not path.is_file():
        raise files.Stop(f"{folder} holds no embeddings: {path} is missing. Run the stage embed.")
    found: dict[str, Any] = files.read_json(path)
    return found


def load(folder: Path) -> dict[str, Embedded]:
    """Read embeddings by modality: one from its own folder, several through their joint passport.

    Raises:
        files.Stop: a part is missing or is not the one that was joined.
    """
    return {modality: _leaf(where, own) for modality, (where, own) in _leaves(folder).items()}


def check_items(embedded: Mapping[str, Embedded], folder: Path, prepared: Path, items: int) -> None:
    """See that embeddings are of a prepared domain's items.

    Args:
        embedded: by modality.
        folder: where they were found.
        prepared: where the domain was.
        items: N, of the domain.

    Raises:
        files.Stop: they are of another number of items.
    """
    for one in embedded.values():
        if len(one.vectors) != items + 1:
            raise files.Stop(
                f"{folder} has vectors of {len(one.vectors) - 1:,} items, and {prepared} has "
                f"{items:,}: they come from different data; name those that belong together, or "
                "run `dvc repro`"
            )


def passports(folder: Path) -> dict[str, dict[str, Any]]:
    """Read each modality's own passport, which needs no other folder to be understood.

    Raises:
        files.Stop: a part is missing or is not the one that was joined.
    """
    return {modality: own for modality, (_, own) in _leaves(folder).items()}


def _leaves(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Find the folder and the passport of each modality."""
    found = passport(folder)
    if "parts" not in found:
        return {found["modality"]: (folder, found)}
    leaves = {}
    for modality, part in found["parts"].items():
        where = folder / part["folder"]
        own = passport(where)
        if files.sha256(where / PASSPORT) != part["passport"]:
            raise files.Stop(
                f"{where / PASSPORT} has changed since {folder / PASSPORT} was written from it. "
                "Run the stage join again."
            )
        leaves[modality] = (where, own)
    return leaves


def _leaf(folder: Path, found: dict[str, Any]) -> Embedded:
    measured = found["statistics"]
    return Embedded(
        vectors=np.load(folder / "vectors.npy", mmap_mode="r"),
        present=np.load(folder / "present.npy"),
        mean=np.array(measured["mean"], dtype=np.float32),
        sd=np.array(measured["sd"], dtype=np.float32),
        scale=float(measured["scale"]),
    )

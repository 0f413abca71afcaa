"""The canonical tables: names and types; save and load of a prepared domain."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.data import files, sequences

ITEMS = pl.Schema({"id": pl.String, "text": pl.String, "cover": pl.String})
AGAIN = "run the stage prepare, or name another folder"
USERS = pl.Schema({"id": pl.String, "valid": pl.Int32, "test": pl.Int32})


class Prepared(NamedTuple):
    """A domain as every later stage reads it."""

    items: pl.DataFrame  # N rows of ITEMS, row i - 1 is item i; text is null if missing; cover is
    # the file that a column of the raw table names, "" if none; null where no column names covers
    users: pl.DataFrame  # U rows of USERS; valid and test are the held-out items
    sequences: sequences.Lists  # row u is user u's whole history, oldest first


def save(folder: Path, prepared: Prepared) -> None:
    """Write a prepared domain into a folder: equal domains are equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table, schema in (("items", prepared.items, ITEMS), ("users", prepared.users, USERS)):
        whole = table.match_to_schema(schema).rechunk()  # pages would end where its chunks do
        whole.write_parquet(folder / f"{name}.parquet")
    np.save(folder / "sequences.npy", prepared.sequences.items)
    np.save(folder / "offsets.npy", prepared.sequences.offsets)


def load(folder: Path) -> Prepared:
    """Read a prepared domain; its sequences stay on disk, mapped into memory.

    Raises:
        Stop: the folder holds none.
    """
    items = load_items(folder)
    for name in ("users.parquet", "sequences.npy", "offsets.npy"):
        if not (folder / name).is_file():
            raise files.Stop(f"{folder} holds no whole prepared domain: it has no {name}; {AGAIN}")
    return Prepared(
        items=items,
        users=pl.read_parquet(folder / "users.parquet"),
        sequences=sequences.Lists(
            np.load(folder / "sequences.npy", mmap_mode="r"), np.load(folder / "offsets.npy")
        ),
    )


def load_items(folder: Path) -> pl.DataFrame:
    """Read the items of a prepared domain alone: N rows of ITEMS.

    Raises:
        Stop: the folder holds none, or a table of other columns.
    """
    path = folder / "items.parquet"
    if not path.is_file():
        raise files.Stop(f"{folder} holds no prepared domain: {path} is missing; {AGAIN}")
    items = pl.read_parquet(path)
    if not set(ITEMS) <= set(items.columns):
        raise files.Stop(
            f"{path} is no table of a prepared domain's items: its columns are "
            f"{', '.join(items.columns)}; {AGAIN}"
        )
    return items

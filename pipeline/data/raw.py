"""A domain as read from raw files: canonical columns, nothing filtered yet."""

from pathlib import Path
from typing import NamedTuple

import polars as pl


class Raw(NamedTuple):
    """A domain as read, in canonical columns, unfiltered."""

    interactions: pl.DataFrame  # in the file's order: user, item as `ids.encode` gives them;
    # timestamp Int64, 0 if there is none; line UInt32 from 1, for messages
    items: pl.DataFrame  # id, text, cover String, unique ids; cover as in tables.ITEMS
    timed: bool  # there are timestamps
    source: Path  # the file of the interactions
    columns: str  # the order of columns found, "user,item,timestamp"
    warnings: list[str]


def unique(items: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, list[str]]:
    """Keep the first row of each id; an empty text is no text, and warn."""
    first = items.unique("id", keep="first", maintain_order=True)
    again = items.filter(pl.col("id").is_duplicated() & ~pl.col("id").is_first_distinct())
    warnings = []
    if len(again):
        warnings.append(
            f"{path.name}: {len(again)} duplicate item rows, the first of each id was kept; "
            f"ids: {', '.join(map(repr, again['id'].unique(maintain_order=True).head(5)))}"
        )
    text = pl.when(pl.col("text") != "").then("text")
    return first.with_columns(text=text), warnings

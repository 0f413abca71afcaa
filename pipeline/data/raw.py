"""A domain as read from raw files: canonical columns, nothing filtered yet."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.data import ids


class Raw(NamedTuple):
    """A domain as read, in canonical columns, unfiltered."""

    interactions: pl.DataFrame  # in the file's order: user, item as `ids.encode` gives them;
    # timestamp Int64, 0 if there is none; line UInt32 from 1, for messages
    items: pl.DataFrame  # id, text, cover String, unique ids; cover as in tables.ITEMS
    timed: bool  # there are timestamps
    source: Path  # the file of the interactions
    columns: str  # the order of columns found, "user,item,timestamp"
    warnings: list[str]
    has_texts: bool = True  # whether the files are to hold texts; if not, none is missing


def join_texts(columns: Sequence[str]) -> pl.Expr:
    """Join an item's columns of text by ". ", leaving out those that are empty."""
    texts = [pl.col(name).cast(pl.String).str.strip_chars() for name in columns]
    parts: list[pl.Expr] = [pl.when(text != "").then(text) for text in texts]
    return pl.concat_str(parts or [pl.lit("")], separator=". ", ignore_nulls=True)


def items_of(interactions: pl.DataFrame) -> pl.DataFrame:
    """Make the item table of interactions that come without one: by id, no text, no cover named."""
    nothing = pl.lit(None, pl.String)
    known = ids.names(interactions["item"]).sort()
    return known.to_frame("id").with_columns(text=nothing, cover=nothing)


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

"""What a target shares with the source, and which held-out items the source has."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.data import covers, files, tables
from pipeline.data.tables import Prepared


class Catalogue(NamedTuple):
    """A prepared domain, and its covers as far as their bytes tell them apart."""

    prepared: Prepared
    covers: pl.Series  # [N] String, the sha256 of each item's cover file; null where there is none


class Overlap(NamedTuple):
    """What a target shares with the source."""

    items: int
    shared_texts: int  # items with a text that an item of the source has
    shared_covers: int  # items with a cover file that is, byte for byte, one of the source's
    shared_items: int  # items with the one or the other
    users: int
    shared_users: int  # with a user id of the source
    is_known: np.ndarray  # [U] bool, whether the source has the user's held-out test item


def load(prepared: Path, digests: Path | None) -> Catalogue:
    """Read a prepared domain and its covers' digests; None: it has no cover.

    Raises:
        Stop: the digests are not those of the item table.
    """
    domain = tables.load(prepared)
    if digests is None:
        return Catalogue(domain, pl.Series("cover", [None] * len(domain.items), dtype=pl.String))
    found = covers.read_digests(digests.parent)["cover"]
    if len(found) != len(domain.items):
        raise files.Stop(
            f"{digests} has {len(found):,} rows, {prepared} has {len(domain.items):,} items, and "
            "there must be one a row: they come from different data. Run `dvc repro`."
        )
    return Catalogue(domain, found)


def measure(source: Catalogue, target: Catalogue) -> Overlap:
    """Find the target's items that the source has too, and its users with an id of the source.

    An item is shared if an item of the source has an equal text, but for case and white space at
    its ends, or a cover file of the same bytes. Nothing is shared by having no text or no cover.
    """
    has_text = _is_in(_texts(target.prepared), _texts(source.prepared))
    has_cover = _is_in(target.covers, source.covers)
    is_shared = has_text | has_cover
    users = target.prepared.users
    return Overlap(
        items=len(is_shared),
        shared_texts=int(has_text.sum()),
        shared_covers=int(has_cover.sum()),
        shared_items=int(is_shared.sum()),
        users=len(users),
        shared_users=int(_is_in(users["id"], source.prepared.users["id"]).sum()),
        is_known=is_shared[users["test"].to_numpy() - 1],
    )


def _is_in(values: pl.Series, others: pl.Series) -> np.ndarray:
    return values.is_in(others.unique().implode()).fill_null(value=False).to_numpy()


def _texts(prepared: Prepared) -> pl.Series:
    texts = prepared.items["text"].str.strip_chars().str.to_lowercase()
    return texts.set(texts == "", None)

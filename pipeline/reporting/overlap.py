"""What a target shares with the source, and how runs do on items the source has and has not."""

from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.data.tables import Prepared


class Overlap(NamedTuple):
    """What a target shares with the source."""

    items: int
    shared_items: int  # with a text that an item of the source has
    users: int
    shared_users: int  # with a user id of the source
    is_known: np.ndarray  # [U] bool, whether the source has the user's held-out test item


def measure(source: Prepared, target: Prepared) -> Overlap:
    """Find the target's items with a text of the source, and its users with an id of the source.

    Texts are equal when they are so but for case and white space at their ends. An item without
    text is shared with none.
    """
    texts = _texts(source).drop_nulls().unique()
    own = _texts(target)
    is_shared = own.is_in(texts.implode()).fill_null(value=False).to_numpy()
    held_out = target.users["test"].to_numpy()
    return Overlap(
        items=len(own),
        shared_items=int(is_shared.sum()),
        users=len(target.users),
        shared_users=int(target.users["id"].is_in(source.users["id"].implode()).sum()),
        is_known=is_shared[held_out - 1],
    )


def _texts(prepared: Prepared) -> pl.Series:
    texts = prepared.items["text"].str.strip_chars().str.to_lowercase()
    return texts.set(texts == "", None)

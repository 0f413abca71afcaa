"""Interactions in integers: ids numbered, in order by user, then time, then the file."""

from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.data import ids
from pipeline.data.sequences import Lists

BITS = 63  # of a user's number and a moment side by side


class Events(NamedTuple):
    """The interactions with known items, user by user, oldest first."""

    users: pl.Series  # [U] String, of the users that have any, ascending
    histories: Lists  # row u is user u's
    is_tied: np.ndarray  # [total] bool, whether user and time are those of the one before
    first: np.ndarray  # [U] int64, a user's first timestamp
    last: np.ndarray  # [U] int64


def numbers(interactions: pl.DataFrame, items: pl.Series) -> np.ndarray:
    """Find the number of each interaction's item in the item table: [n] int32, 0 if unknown."""
    names = pl.DataFrame({"id": ids.names(interactions["item"])})
    table = pl.DataFrame({"id": items}).with_row_index("number", offset=1)
    found = names.join(table, on="id", how="left", maintain_order="left")["number"]
    return np.take(found.fill_null(0).cast(pl.Int32).to_numpy(), ids.codes(interactions["item"]))


def put_in_order(interactions: pl.DataFrame, items: np.ndarray) -> Events:
    """Number the users by sorted id, and sort what they did by time, then the file's order.

    Args:
        interactions: those of a `raw.Raw`.
        items: [n] int32, the number of each one's item; those with 0 are left out.
    """
    users, times = ids.codes(interactions["user"]), interactions["timestamp"].to_numpy()
    if not items.all():
        users, times, items = (column[items > 0] for column in (users, times, items))
    names, users, lengths = _rank(ids.names(interactions["user"]), users)
    bits = BITS - len(names).bit_length()
    keys = users << bits | _moments(times, bits)
    ordered = pl.DataFrame({"key": keys, "item": items}).sort("key", maintain_order=True)
    keys = ordered["key"].to_numpy()
    is_tied = np.zeros(len(keys), bool)
    np.equal(keys[1:], keys[:-1], out=is_tied[1:])

    span = np.iinfo(np.int64)
    first, last = np.full(len(names), span.max), np.full(len(names), span.min)
    np.minimum.at(first, users, times)
    np.maximum.at(last, users, times)
    offsets = np.zeros(len(names) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Events(names, Lists(ordered["item"].to_numpy(), offsets), is_tied, first, last)


def repeats(events: Events) -> np.ndarray:
    """Find events with user, time and item of an earlier one: their places, ascending."""
    is_tied = events.is_tied.copy()
    is_tied[:-1] |= events.is_tied[1:]  # the first one of each run too
    places = np.flatnonzero(is_tied)
    runs = np.cumsum(~events.is_tied[places])
    pairs = runs << 32 | events.histories.items[places]
    order = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(pairs[order[1:]] == pairs[order[:-1]]) + 1
    return np.sort(places[order[again]])


def without(lists: Lists, places: np.ndarray) -> Lists:
    """Leave out the items at the given places of the flat array."""
    owners = np.searchsorted(lists.offsets, places, "right") - 1
    gone = np.bincount(owners, minlength=len(lists.offsets) - 1)
    return Lists(np.delete(lists.items, places), lists.offsets - np.append(0, np.cumsum(gone)))


def _rank(names: pl.Series, codes: np.ndarray) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Replace codes by the ranks of the names that occur: (those, sorted; ranks; how often)."""
    counts = np.bincount(codes)
    present = np.flatnonzero(counts)
    order = names.gather(present).arg_sort()
    present = present[order]
    rank = np.zeros(len(counts), np.int64)
    rank[present] = np.arange(len(present))
    return names.gather(present), rank[codes], counts[present]


def _moments(times: np.ndarray, bits: int) -> np.ndarray:
    """Shift times to begin at 0, or rank them where they would not fit into so many bits."""
    if not len(times):
        return times
    if int(times.max()) - int(times.min()) < 1 << bits:
        moments: np.ndarray = times - times.min()
        return moments
    _, ranks = np.unique(times, return_inverse=True)
    return ranks

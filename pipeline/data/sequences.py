"""Rows of items per user without padding: one flat array and where each row begins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PAD = 0  # no item; items are 1..N
ROWS = 1 << 14  # that are copied at once


class Lists(NamedTuple):
    """Rows of items per user, without padding, oldest item first."""

    items: np.ndarray  # [total] int32, all users' items one after another
    offsets: np.ndarray  # [U + 1] int64, user u owns items[offsets[u]:offsets[u + 1]]


def from_rows(rows: Sequence[Sequence[int] | np.ndarray]) -> Lists:
    """Put rows of items one after another."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    items = np.fromiter((item for row in rows for item in row), np.int32, int(offsets[-1]))
    return Lists(items, offsets)


def lengths(lists: Lists) -> np.ndarray:
    """Count each user's items: [U] int64."""
    return np.diff(lists.offsets)


def owners(lists: Lists) -> np.ndarray:
    """Name the user of each item: [total] int64."""
    return np.repeat(np.arange(len(lists.offsets) - 1), lengths(lists))


def distinct(lists: Lists, width: int) -> np.ndarray:
    """List each user's items once: user * width + item, ascending, [n] int64; items < width."""
    keys = np.sort(owners(lists) * width + lists.items)  # np.unique takes 17 times as long
    is_new = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_new[1:])
    return keys[is_new]


def take(lists: Lists, rows: np.ndarray) -> Lists:
    """Keep the given rows ([n] int), in the order given."""
    return _pieces(lists, lists.offsets[:-1][rows], lengths(lists)[rows])


def last(lists: Lists, n: int) -> Lists:
    """Keep the last n items of each row, all of a shorter one."""
    kept = np.minimum(lengths(lists), n)
    return _pieces(lists, lists.offsets[1:] - kept, kept)


def drop_last(lists: Lists, n: int) -> Lists:
    """Leave out the last n items of each row; a shorter one becomes empty."""
    return _pieces(lists, lists.offsets[:-1], np.maximum(lengths(lists) - n, 0))


def marked(lists: Lists, marks: np.ndarray) -> Lists:
    """Keep the items that are marked ([N + 1] bool), each row's in their order."""
    is_kept = marks[lists.items]
    before = np.concatenate([[0], np.cumsum(is_kept)])
    return Lists(lists.items[is_kept], before[lists.offsets])


def cut(lists: Lists, size: int) -> Lists:
    """Cut each row from its end into pieces of at most `size` items, 2 or more, the last one first.

    A piece ends with the item that the one after it in time begins with, so that every two
    neighbours of a row stand side by side in one piece, and in one alone.
    """
    n = lengths(lists)
    counts = np.maximum(1, -(-(n - 1) // (size - 1)))  # pieces of each row
    rows = np.repeat(np.arange(len(n)), counts)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # from the end
    ends = n[rows] - place * (size - 1)
    starts = np.maximum(ends - size, 0)
    return _pieces(lists, lists.offsets[:-1][rows] + starts, ends - starts)


def _pieces(lists: Lists, starts: np.ndarray, counts: np.ndarray) -> Lists:
    """Copy items[starts[r] : starts[r] + counts[r]] for each new row r."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    items = np.empty(offsets[-1], lists.items.dtype)
    shifts = starts - offsets[:-1]  # from a place in the new array to the old one
    for first in range(0, len(counts), ROWS):  # a place takes twice an item's memory
        some = slice(first, first + ROWS)
        new = slice(offsets[first], offsets[some.stop] if some.stop < len(offsets) else None)
        places = np.repeat(shifts[some], counts[some])
        places += np.arange(new.start, new.start + len(places))
        items[new] = lists.items[places]
    return Lists(items, offsets)

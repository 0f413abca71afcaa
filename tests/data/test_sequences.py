"""Flat lists against plain Python lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import sequences

ROWS = st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=6)


def rows_of(lists):
    return [
        lists.items[a:b].tolist()
        for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
    ]


def test_hand_worked_lists():
    lists = sequences.from_rows([[3, 1], [], [2, 2, 5]])
    assert lists.items.tolist() == [3, 1, 2, 2, 5]
    assert lists.offsets.tolist() == [0, 2, 2, 5]
    assert sequences.lengths(lists).tolist() == [2, 0, 3]
    assert sequences.owners(lists).tolist() == [0, 0, 2, 2, 2]


@given(ROWS, st.integers(0, 7))
def test_last_and_drop_last_agree_with_slices(rows, n):
    lists = sequences.from_rows(rows)
    assert rows_of(lists) == rows
    assert rows_of(sequences.last(lists, n)) == [row[len(row) - min(n, len(row)) :] for row in rows]
    assert rows_of(sequences.drop_last(lists, n)) == [row[: max(len(row) - n, 0)] for row in rows]


@given(ROWS, st.integers(0, 7), st.integers(1, 4))
def test_rows_that_are_copied_bit_by_bit_are_the_same(rows, n, at_once):
    lists = sequences.from_rows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "ROWS", at_once)
        assert rows_of(sequences.last(lists, n)) == [row[max(len(row) - n, 0) :] for row in rows]


@given(ROWS.filter(len), st.data())
def test_take_agrees_with_indexing(rows, data):
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = sequences.take(sequences.from_rows(rows), np.array(picked, np.int64))
    assert rows_of(taken) == [rows[r] for r in picked]
    assert taken.items.dtype == np.int32
    assert taken.offsets.dtype == np.int64


@given(ROWS, st.integers(2, 5))
def test_pieces_share_their_ends_alone(rows, size):
    pieces = iter(rows_of(sequences.cut(sequences.from_rows(rows), size)))
    for row in rows:
        joined = next(pieces)
        assert len(joined) == min(size, len(row))
        while len(joined) < len(row):
            older = next(pieces)
            assert 2 <= len(older) <= size
            assert older[-1] == joined[0]
            assert len(older) == size or len(older) + len(joined) - 1 == len(row)
            joined = older[:-1] + joined
        assert joined == row
    assert next(pieces, None) is None


@given(ROWS, st.sets(st.integers(0, 9)))
def test_marked_items_keep_their_order(rows, marked):
    marks = np.isin(np.arange(10), [*marked])
    found = rows_of(sequences.marked(sequences.from_rows(rows), marks))
    assert found == [[item for item in row if item in marked] for row in rows]


@given(ROWS)
def test_distinct_items_are_each_users_own(rows):
    found = sequences.distinct(sequences.from_rows(rows), 10)
    assert found.tolist() == [
        10 * u + item for u, row in enumerate(rows) for item in sorted({*row})
    ]

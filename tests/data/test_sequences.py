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


@given(ROWS)
def test_distinct_items_are_each_users_own(rows):
    found = sequences.distinct(sequences.from_rows(rows), 10)
    assert found.tolist() == [
        10 * u + item for u, row in enumerate(rows) for item in sorted({*row})
    ]

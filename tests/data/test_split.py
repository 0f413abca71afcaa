"""Leave-one-out by hand, and what holds for any history."""

import itertools
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import sequences, split

NINEREC = split.Protocol(
    min_items=5, window=23, train="window", mask="window", catalogue="window", select="hr@10"
)


def rows_of(lists):
    return [
        lists.items[a:b].tolist()
        for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
    ]


def with_(**changes):
    return split.Protocol(**(NINEREC.model_dump() | changes))


def test_a_short_history_by_hand():
    # a..h: train a..f; valid (a..f) -> g; test (a..g) -> h
    a, b, c, d, e, f, g, h = range(1, 9)
    parts = split.split(sequences.from_rows([[a, b, c, d, e, f, g, h]]), 9, NINEREC)

    assert rows_of(parts.train) == [[a, b, c, d, e, f]]
    assert rows_of(parts.valid.histories) == rows_of(parts.valid.masked) == [[a, b, c, d, e, f]]
    assert rows_of(parts.test.histories) == rows_of(parts.test.masked) == [[a, b, c, d, e, f, g]]
    assert parts.valid.items.tolist() == [g]
    assert parts.test.items.tolist() == [h]
    assert np.flatnonzero(parts.candidates).tolist() == [a, b, c, d, e, f, g, h]  # never 0, nor 9


@pytest.mark.parametrize(
    ("mask", "valid", "test"),
    [
        ("window", range(8, 29), range(8, 30)),  # 30 items: the window is 8..30
        ("all", range(1, 29), range(1, 30)),
        ("none", [], []),
    ],
)
def test_a_long_history_by_hand(mask, valid, test):
    parts = split.split(sequences.from_rows([range(1, 31)]), 31, with_(mask=mask))

    assert rows_of(parts.train) == [list(range(8, 29))]  # 21 items: 20 inputs and their targets
    assert rows_of(parts.valid.histories) == [list(range(9, 29))]  # the last 20
    assert rows_of(parts.test.histories) == [list(range(10, 30))]
    assert rows_of(parts.valid.masked) == [list(valid)]
    assert rows_of(parts.test.masked) == [list(test)]
    assert (parts.valid.items.tolist(), parts.test.items.tolist()) == ([29], [30])
    assert np.flatnonzero(parts.candidates).tolist() == list(range(8, 31))


def test_all_of_a_history_is_learned_from_in_pieces_by_hand():
    # Windows of 6: 4 to learn from, 2 held out. The first user's is 6..11, the second's all.
    rows = [range(1, 12), [1, 2, 6, 7, 8]]
    protocol = with_(window=6, train="all", catalogue="all")
    parts = split.split(sequences.from_rows(rows), 12, protocol)
    assert rows_of(parts.train) == [[6, 7, 8, 9], [3, 4, 5, 6], [1, 2, 3], [1, 2, 6]]

    # Items 3, 4 and 5 are in no window, 1 and 2 in the second's.
    protocol = with_(window=6, train="all", catalogue="window")
    parts = split.split(sequences.from_rows(rows), 12, protocol)
    assert rows_of(parts.train) == [[6, 7, 8, 9], [1, 2, 6], [1, 2, 6]]


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=30), min_size=1, max_size=5),
    st.integers(4, 9),
    st.sampled_from(["window", "all"]),
)
def test_what_is_learned_from_changes_no_test_and_misses_no_neighbours(rows, window, catalogue):
    protocol = with_(min_items=3, window=window, catalogue=catalogue)
    less = split.split(sequences.from_rows(rows), 12, protocol)
    more = split.split(sequences.from_rows(rows), 12, protocol.model_copy(update={"train": "all"}))
    assert more.candidates.tolist() == less.candidates.tolist()
    for one, other in ((more.valid, less.valid), (more.test, less.test)):
        assert rows_of(one.histories) == rows_of(other.histories)
        assert rows_of(one.masked) == rows_of(other.masked)
        assert one.items.tolist() == other.items.tolist()
    kept = [[item for item in row[:-2] if less.candidates[item]] for row in rows]
    expected = [pair for row in kept for pair in itertools.pairwise(row)]
    found = [pair for row in rows_of(more.train) for pair in itertools.pairwise(row)]
    assert sorted(found) == sorted(expected)
    assert sequences.lengths(more.train).max() <= window - 2
    assert Counter(map(tuple, rows_of(less.train))) <= Counter(map(tuple, rows_of(more.train)))


def test_catalogue_all_is_the_item_table():
    parts = split.split(sequences.from_rows([[1, 2, 3, 4, 5]]), 7, with_(catalogue="all"))
    assert parts.candidates.tolist() == [False] + [True] * 7


def test_too_short_a_history_is_named():
    with pytest.raises(ValueError, match=r"has 4 items, fewer than protocol\.min_items = 5"):
        split.split(sequences.from_rows([[1, 2, 3, 4]]), 7, NINEREC)


@pytest.mark.parametrize(("key", "least"), [("min_items", 3), ("window", 4)])
def test_too_few_items_leave_nothing_to_learn_from(key, least):
    assert getattr(with_(**{key: least}), key) == least
    with pytest.raises(ValueError, match=f"{key}\n.*greater than or equal to {least}"):
        with_(**{key: least - 1})


def test_the_length_of_a_history_follows_from_the_window():
    assert NINEREC.history == 20


def test_the_metrics_that_select_are_those_at_the_cutoff():
    allowed = get_args(split.Protocol.model_fields["select"].annotation)
    assert {name.partition("@")[2] for name in allowed} == {str(split.CUTOFF)}


@pytest.mark.parametrize("of", [1, 2, 3])
def test_the_parts_of_the_users_are_all_users_with_what_is_theirs(of):
    rows = [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11, 12], [1, 3, 5], [2, 4, 6, 8]]
    whole = split.split(sequences.from_rows(rows), 12, with_(min_items=3)).valid
    parts = [split.part(whole, number, of) for number in range(of)]
    for lists in ("histories", "masked"):
        kept = [row for part in parts for row in rows_of(getattr(part, lists))]
        assert kept == [row[:-2] for row in rows]
    assert [item for part in parts for item in part.items.tolist()] == [3, 6, 11, 3, 6]
    assert {len(part.items) for part in parts} <= {5 // of, -(-5 // of)}


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=12), min_size=1, max_size=5),
    st.integers(4, 9),
    st.sampled_from(["window", "all", "none"]),
    st.sampled_from(["window", "all"]),
)
def test_the_parts_make_the_window(rows, window, mask, catalogue):
    protocol = with_(min_items=3, window=window, mask=mask, catalogue=catalogue)
    parts = split.split(sequences.from_rows(rows), 12, protocol)

    train = rows_of(parts.train)
    for u, row in enumerate(rows):
        kept = row[-window:]
        assert [*train[u], parts.valid.items[u], parts.test.items[u]] == kept
        read = protocol.history
        assert rows_of(parts.valid.histories)[u] == (train[u][-read:] if read else [])
        assert len(rows_of(parts.test.histories)[u]) <= protocol.history
        known = {"window": kept, "all": row, "none": row[:0]}[mask]
        assert rows_of(parts.valid.masked)[u] == known[:-2]
        assert rows_of(parts.test.masked)[u] == known[:-1]
    alone = split.candidates(sequences.from_rows(rows), 12, protocol)
    assert parts.candidates.tolist() == alone.tolist()
    held_out = np.concatenate([parts.valid.items, parts.test.items])
    assert parts.candidates[held_out].all()  # whoever is held out can be found
    assert not parts.candidates[0]

"""Leave-one-out by hand, and what holds for any history."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import sequences, split

NINEREC = split.Protocol(min_items=5, window=23, mask="window", catalogue="window", select="hr@10")


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

"""Interactions in order, by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import events, sequences
from tests.data.raw_files import encoded

ITEMS = pl.Series("id", ["a", "b", "c"])


def ordered(rows):
    """Put (user, item, time) rows in order, with the interactions as they were read."""
    read = encoded(rows)
    return events.put_in_order(read, events.numbers(read, ITEMS))


def histories(found):
    ends = zip(found.histories.offsets[:-1], found.histories.offsets[1:], strict=True)
    rows = [found.histories.items[a:b].tolist() for a, b in ends]
    return dict(zip(found.users, rows, strict=True))


def test_users_are_sorted_and_unknown_items_left_out_by_hand():
    found = ordered([
        ("u2", "c", 3), ("u10", "a", 9), ("u2", "x", 1), ("u10", "b", 9), ("u2", "a", 1),
        ("u9", "x", 0),
    ])  # fmt: skip
    assert histories(found) == {"u10": [1, 2], "u2": [1, 3]}  # as text, u10 is before u2
    assert found.is_tied.tolist() == [False, True, False, False]
    assert (found.first.tolist(), found.last.tolist()) == ([9, 1], [9, 3])


@pytest.mark.parametrize("far", [1, 2**60, 2**62])
def test_times_order_however_far_apart_they_are(far):
    times = [-2 * far, far, 0, 2 * far - 1]
    rows = [(user, item, time) for time, item in zip(times, "abca", strict=True) for user in "vu"]
    found = ordered(rows)
    assert histories(found) == {"u": [1, 3, 2, 1], "v": [1, 3, 2, 1]}
    assert (found.first.tolist(), found.last.tolist()) == ([-2 * far] * 2, [2 * far - 1] * 2)


@pytest.mark.parametrize("span", [2**61 - 1, 2**61])
def test_neither_a_time_nor_a_users_number_runs_over_its_bits(span):
    """3 users take 2 of 63 bits, so that 61 are left: 2^61 would be another user's first moment."""
    found = ordered([
        ("w", "c", span), ("w", "b", 1), ("w", "a", 0), ("v", "a", span), ("v", "c", 1),
        ("v", "b", 0), ("u", "b", span), ("u", "a", 1), ("u", "c", 0),
    ])  # fmt: skip
    assert histories(found) == {"u": [3, 1, 2], "v": [2, 3, 1], "w": [1, 2, 3]}
    assert not found.is_tied.any()


def test_repeats_by_hand():
    rows = [("u", item, time) for item, time in [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("a", 1)]]
    found = ordered([*rows, ("v", "a", 1), ("v", "a", 1)])
    assert histories(found) == {"u": [1, 2, 1, 1, 1], "v": [1, 1]}
    again = events.repeats(found)
    assert again.tolist() == [2, 3, 6]  # u's a at 1, twice again; v's once
    left = events.without(found.histories, again)
    assert histories(found._replace(histories=left)) == {"u": [1, 2, 1], "v": [1]}


def test_the_file_orders_many_events_of_one_time():
    items = [ITEMS[number] for number in np.random.default_rng(0).integers(0, 3, 1000).tolist()]
    found = ordered([(user, item, 5) for item in items for user in "vu"])
    numbers = [ITEMS.to_list().index(item) + 1 for item in items]
    assert histories(found) == {"u": numbers, "v": numbers}
    firsts = {items.index(item) for item in ITEMS}
    kept = sorted([*firsts, *(1000 + first for first in firsts)])
    assert events.repeats(found).tolist() == [n for n in range(2000) if n not in kept]


@given(st.lists(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=5), max_size=5))
def test_without_agrees_with_lists(rows):
    lists = sequences.from_rows([[item for item, _ in row] for row in rows])
    gone = np.flatnonzero([is_gone for row in rows for _, is_gone in row])
    left = events.without(lists, gone.astype(np.int64))
    expected = sequences.from_rows([[item for item, is_gone in row if not is_gone] for row in rows])
    assert left.items.tolist() == expected.items.tolist()
    assert left.offsets.tolist() == expected.offsets.tolist()

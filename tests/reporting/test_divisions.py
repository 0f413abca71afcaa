"""Users apart by a number of theirs, and what the report says of each slice."""

import numpy as np
import polars as pl
import pytest

from pipeline.reporting import divisions, overlap, results
from tests.reporting.conftest import USERS, rows


@pytest.mark.parametrize(
    ("numbers", "least", "titles"),
    [
        ([0, 1, 2, 3, 9, 10, 49, 50, 7000], divisions.OCCURRENCES,
         ["0", "1-2", "1-2", "3-9", "3-9", "10-49", "10-49", "50+", "50+"]),
        ([1, 4, 5, 9, 10, 19, 20], divisions.HISTORIES,
         ["1-4", "1-4", "5-9", "5-9", "10-19", "10-19", "20+"]),
        ([0, 5, 6], [0, 5, 6], ["0-4", "5", "6+"]),
    ],
)  # fmt: skip
def test_ranges_by_hand(numbers, least, titles):
    found = divisions.ranges(np.array(numbers), least)
    assert [*found] == [*dict.fromkeys(titles)]
    for title, users in found.items():
        assert users.tolist() == [one == title for one in titles]


def test_a_range_without_users_is_left_out():
    assert [*divisions.ranges(np.array([60, 0]), divisions.OCCURRENCES)] == ["0", "50+"]


def test_a_slice_is_of_the_test_and_of_all_seeds():
    """Two seeds: the users of the slice hit in (1 + 0) / 2 and (1 + 1) / 2 of the trainings."""
    hits = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    wrong = np.full((2, 3), 0.123)
    values = {("valid", results.HR): wrong, ("test", results.NDCG): wrong}
    result = results.Result("id", False, values | {("test", results.HR): hits}, {}, {}, {})
    found = divisions.estimate(result, np.array([True, True, False]))
    assert found.mean == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert (found.low, found.high) == (1 / 2, 1)


@pytest.mark.parametrize(
    ("known", "unknown", "is_divided"), [(20, 20, True), (19, 500, False), (500, 19, False)]
)
def test_slices_of_20_users_are_drawn(known, unknown, is_divided):
    is_known = np.repeat([True, False], [known, unknown])
    shared = overlap.Overlap(0, 0, 0, 0, 0, 0, is_known)
    group = results.Group("near", "text", "sasrec")
    outcome = results.Outcome(group, {}, {}, [10], pl.DataFrame())
    found = divisions.by_source(outcome, {"near": shared})
    sizes = {title: int(users.sum()) for title, users in found.items()}
    assert sizes == {"in the source": known, "not in the source": unknown}
    assert divisions.is_divided(outcome, {"near": shared}) == is_divided


def test_slices_of_the_report_are_means_over_their_users(world):
    """100 users whose item was never seen, 400 of 2 times, 1,000 of 50 and more."""
    occurrences = np.repeat([0, 2, 77], [100, 400, 1000])
    history = np.repeat([20, 4], [600, 900])
    world.users("near", occurrences, history)
    text = world.report()
    ranks = pl.read_parquet(world.root / "evaluate/near-text-sasrec/ranks.parquet")
    own = ranks.filter(run="frozen", split="test").sort("user")
    is_hit = ((own["better"] < 10) & (own["tied"] > 0)).to_numpy()
    cells = {row[1]: row for row in rows(text, "near")}
    for title, users in [
        ("0", occurrences == 0), ("1-2", occurrences == 2), ("50+", occurrences == 77),
        ("20+", history == 20), ("1-4", history == 4),
    ]:  # fmt: skip
        assert cells[title][2] == f"{users.sum():,}"
        assert cells[title][4].startswith(f"{100 * is_hit[users].mean():.2f} [")  # id, frozen
    assert "3-9" not in cells and "5-9" not in cells


def test_users_are_those_of_the_values_whatever_their_order_on_disk(world):
    occurrences = np.where(np.arange(USERS) < 3, 0, 50)
    world.users("near", occurrences, np.full(USERS, 4))
    path = world.root / "evaluate/near-text-sasrec/users.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    group = results.Group("near", "text", "sasrec")
    known = results.load(world.root / "evaluate", group, ["frozen"], set()).results["frozen"]
    path = world.root / "evaluate/near-text-sasrec/ranks.parquet"
    pl.read_parquet(path).reverse().write_parquet(path)
    outcome = results.load(world.root / "evaluate", group, ["frozen"], set())
    for key, values in outcome.results["frozen"].values.items():
        np.testing.assert_array_equal(values, known.values[key])
    assert np.flatnonzero(divisions.by_occurrences(outcome)["0"]).tolist() == [0, 1, 2]

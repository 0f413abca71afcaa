import numpy as np
import polars as pl
import pytest

from pipeline.data import files, sequences, tables
from pipeline.reporting import overlap
from pipeline.reporting import tables as report_tables
from tests.reporting.conftest import rows


def domain(texts, users, covers=None):
    """Users' held-out test items are 1, 2, 3, ... in turn."""
    n = len(texts)
    prepared = tables.Prepared(
        items=pl.DataFrame(
            {"id": [str(i) for i in range(n)], "text": texts, "cover": [None] * n},
            schema=tables.ITEMS,
        ),
        users=pl.DataFrame(
            {"id": users, "valid": [1] * len(users), "test": [*range(1, len(users) + 1)]},
            schema=tables.USERS,
        ),
        sequences=sequences.from_rows([[1]] * len(users)),
    )
    return overlap.Catalogue(prepared, pl.Series("cover", covers or [None] * n, dtype=pl.String))


def test_texts_are_compared_but_for_case_and_white_space_at_their_ends():
    source = domain(["Toy Story", "Heat ", None, ""], ["u1", "u2"])
    target = domain(["toy story", " Heat", None, "", "Alien"], ["u2", "u3", "u4", "u5", "u6"])
    shared = overlap.measure(source, target)
    assert (shared.items, shared.shared_items) == (5, 2)  # no text is shared with no text
    assert (shared.users, shared.shared_users) == (5, 1)
    assert shared.is_known.tolist() == [True, True, False, False, False]


def test_an_item_is_shared_by_its_text_or_by_the_bytes_of_its_cover():
    """As with films whose texts carry other genres elsewhere: only the posters are the same."""
    source = domain(["Heat, crime", "Alien", "Solo"], ["u1"], ["a", "b", None])
    target = domain(
        ["Heat, thriller", "Alien", "Dune", "Up", "Solo"],
        ["u1", "u2", "u3", "u4", "u5"],
        ["a", "c", None, "d", "b"],
    )
    shared = overlap.measure(source, target)
    assert (shared.shared_texts, shared.shared_covers, shared.shared_items) == (2, 2, 3)
    assert shared.is_known.tolist() == [True, True, False, False, True]


def test_no_cover_is_shared_with_no_cover():
    shared = overlap.measure(domain(["a"], ["u1"], [None]), domain(["b"], ["u2"], [None]))
    assert shared.shared_items == 0


def test_the_table_says_of_what_each_share_is():
    is_known = np.repeat([True, False], [5, 3])
    shared = overlap.Overlap(10, 1, 2, 3, users=8, shared_users=4, is_known=is_known)
    assert rows(report_tables.overlap({"near": shared}), "near") == [
        [
            "near", "3 of 10 (30.0 %)", "1 of 10 (10.0 %)", "2 of 10 (20.0 %)",
            "5 of 8 (62.5 %)", "4 of 8 (50.0 %)",
        ]
    ]  # fmt: skip


def test_digests_are_read_where_there_are_any(tmp_path):
    tables.save(tmp_path / "prepared", domain(["a", "b"], ["u1"]).prepared)
    assert overlap.load(tmp_path / "prepared", None).covers.to_list() == [None, None]
    digests = tmp_path / "digests.parquet"
    pl.DataFrame({"cover": ["x", None]}).write_parquet(digests)
    assert overlap.load(tmp_path / "prepared", digests).covers.to_list() == ["x", None]
    pl.DataFrame({"cover": ["x"]}).write_parquet(digests)
    with pytest.raises(files.Stop, match=r"digests.parquet has 1 rows, .* has 2 items.*dvc repro"):
        overlap.load(tmp_path / "prepared", digests)

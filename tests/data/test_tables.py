"""What is saved is what is loaded."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.data import files, sequences, tables


def domain():
    return tables.Prepared(
        items=pl.DataFrame(
            {"id": ["v1", "../x"], "text": ["boots", None], "cover": [None, "v1.jpg"]},
            schema=tables.ITEMS,
        ),
        users=pl.DataFrame({"id": ["u1"], "valid": [1], "test": [2]}, schema=tables.USERS),
        sequences=sequences.from_rows([[1, 2, 1, 2]]),
    )


def test_round_trip(tmp_path):
    prepared = domain()
    tables.save(tmp_path / "domain", prepared)
    loaded = tables.load(tmp_path / "domain")

    assert_frame_equal(loaded.items, prepared.items)
    assert_frame_equal(loaded.users, prepared.users)
    np.testing.assert_array_equal(loaded.sequences.items, prepared.sequences.items)
    np.testing.assert_array_equal(loaded.sequences.offsets, prepared.sequences.offsets)
    assert isinstance(loaded.sequences.items, np.memmap)


def test_how_a_table_was_put_together_leaves_its_bytes_alone(tmp_path):
    ids = pl.DataFrame({"id": [f"u{user}" for user in range(100_000)]})
    users = ids.with_columns(valid=pl.lit(1, pl.Int32), test=pl.lit(2, pl.Int32))
    pieces = pl.concat([users[:30_000], users[30_000:]], rechunk=False)
    written = []
    for folder, table in (("whole", users), ("pieces", pieces)):
        tables.save(tmp_path / folder, domain()._replace(users=table))
        written.append((tmp_path / folder / "users.parquet").read_bytes())
    assert written[0] == written[1]


def test_a_folder_with_another_table_of_items_is_named(tmp_path):
    with pytest.raises(files.Stop, match=r"items\.parquet is missing; run the stage prepare, or"):
        tables.load_items(tmp_path)
    pl.DataFrame({"item_id": [1], "title": ["a"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(files.Stop, match=r"no table of a .* columns are item_id, title; run"):
        tables.load_items(tmp_path)

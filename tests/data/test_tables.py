"""What is saved is what is loaded."""

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from pipeline.data import sequences, tables


def test_round_trip(tmp_path):
    prepared = tables.Prepared(
        items=pl.DataFrame(
            {"id": ["v1", "../x"], "text": ["boots", None], "cover": [None, "v1.jpg"]},
            schema=tables.ITEMS,
        ),
        users=pl.DataFrame({"id": ["u1"], "valid": [1], "test": [2]}, schema=tables.USERS),
        sequences=sequences.from_rows([[1, 2, 1, 2]]),
    )
    tables.save(tmp_path / "domain", prepared)
    loaded = tables.load(tmp_path / "domain")

    assert_frame_equal(loaded.items, prepared.items)
    assert_frame_equal(loaded.users, prepared.users)
    np.testing.assert_array_equal(loaded.sequences.items, prepared.sequences.items)
    np.testing.assert_array_equal(loaded.sequences.offsets, prepared.sequences.offsets)
    assert isinstance(loaded.sequences.items, np.memmap)

"""The counts of real data under the protocol, where that data is at hand."""

import gzip
from pathlib import Path

import pytest

from pipeline.data import card, prepare, readers
from tests.data.raw_files import PROTOCOL, SETTINGS, TABLE

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
@pytest.mark.parametrize(
    ("name", "users", "items", "interactions", "candidates", "cold"),
    [
        ("ML1M", 6040, 3293, 998734, 3232, 8),
        ("MLS", 631, 4688, 85629, 3217, 62),
        ("HM", 11439, 7678, 84138, 7669, 501),
    ],
)
def test_counts_under_the_protocol(tmp_path, name, users, items, interactions, candidates, cold):
    folder = tmp_path / name
    folder.mkdir()
    for file in (f"{name}_pair.csv", f"{name}_item.csv"):
        (folder / file).write_bytes(gzip.decompress((REAL / name / f"{file}.gz").read_bytes()))

    raw = readers.read("ninerec", folder, "en", TABLE)
    domain, counts = prepare.prepare(name, raw, SETTINGS, PROTOCOL)
    found = card.card(name, raw, domain, counts, PROTOCOL)

    assert found["columns"] == "user,item,timestamp"
    assert (found["users"], found["items"], found["interactions"]) == (users, items, interactions)
    assert found["candidates"] == candidates
    assert found["held_out"]["test"] == {"repeated": 0, "cold": cold}
    assert found["share_without"]["text"] == 0
    assert found["duplicates"] == counts.short_users == counts.unknown == 0

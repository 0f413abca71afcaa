"""The generated domain: what a reader takes, as large as it says, the same every time."""

import polars as pl

from benchmarks import prepare_data
from pipeline.data import covers, ninerec
from pipeline.data.split import HELD_OUT

SIZE = 3_000


def test_a_domain_is_read_and_is_like_bili(tmp_path):
    prepare_data.main(tmp_path / "D", SIZE)
    raw = ninerec.read(tmp_path / "D", "en")
    users, items = prepare_data.scaled(SIZE)

    assert raw.columns == "item,user,timestamp"
    assert (raw.items["text"].null_count(), len(raw.items), raw.warnings) == (0, items, [])
    events = raw.interactions
    lengths = events.group_by("user").len()["len"]
    assert (len(lengths), lengths.min() > HELD_OUT) == (users, True)
    assert abs(len(events) / SIZE - 1) < 0.2
    known = events["item"].cast(pl.String).is_in(raw.items["id"].implode())
    assert known.all()


def test_the_same_size_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        prepare_data.main(tmp_path / name / "D", SIZE)
    for file in ("D_pair.csv", "D_item.csv"):
        written = [(tmp_path / name / "D" / file).read_bytes() for name in ("a", "b")]
        assert written[0] == written[1]


def test_covers_are_whole_images(tmp_path):
    prepare_data.covers(tmp_path / "covers", 2)
    names = covers.listing(tmp_path / "covers")
    assert names == ["0.jpg", "1.jpg"]
    packed = covers.pack(tmp_path / "covers", names, names, 8, tmp_path / "packed")
    assert not packed.broken

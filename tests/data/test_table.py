"""One's own files, as CSV and as Parquet."""

from datetime import datetime
from decimal import Decimal

import polars as pl
import pytest
from pydantic import ValidationError

from pipeline.data import table
from pipeline.data.files import Stop
from tests.data.raw_files import TABLE

EVENTS = pl.DataFrame(
    {"when": [3, 1, 2], "what": ["a", "b", "a"], "who": [7, 7, 8], "extra": ["x", "y", "z"]}
)
GOODS = pl.DataFrame(
    {
        "sku": ["a", "b", "c"],
        "name": [" Boots ", None, ""],
        "blurb": ["warm", "dry", " "],
        "file": ["1.png", None, "x.png"],
    }
)
PARQUET = table.Table(
    **TABLE.model_dump() | {"interactions": "events.parquet", "items": "goods.parquet"}
)


def with_(columns, **changes):
    return table.Table(**columns.model_dump() | changes)


@pytest.mark.parametrize("columns", [TABLE, PARQUET])
def test_both_formats_give_the_same_tables(tmp_path, columns):
    for frame, name in ((EVENTS, columns.interactions), (GOODS, columns.items)):
        write = frame.write_csv if name.endswith("csv") else frame.write_parquet
        write(tmp_path / name)
    raw = table.read(tmp_path, with_(columns, cover="file"))

    assert raw.interactions.select("user", "item", "timestamp").rows() == [
        *[("7", "a", 3), ("7", "b", 1), ("8", "a", 2)]
    ]
    assert raw.items.rows() == [
        ("a", "Boots. warm", "1.png"),
        ("b", "dry", ""),
        ("c", None, "x.png"),
    ]
    assert (raw.timed, raw.columns, raw.warnings) == (True, "who,what,when", [])


@pytest.mark.parametrize("columns", [TABLE, PARQUET])
def test_a_name_is_no_pattern(tmp_path, columns):
    folder = tmp_path / "a[1]" / "x*y"
    for where in (folder, folder.with_name("xzzy")):
        where.mkdir(parents=True)
        for frame, name in ((EVENTS, columns.interactions), (GOODS, columns.items)):
            write = frame.write_csv if name.endswith("csv") else frame.write_parquet
            write(where / name.replace("events", "ev*s"))
            write(where / name)
    name = columns.interactions.replace("events", "ev*s")
    assert len(table.read(folder, with_(columns, interactions=name)).interactions) == 3


@pytest.mark.parametrize("values", [["", "", ""], [None, None, None]])
def test_a_column_of_covers_that_names_none_is_not_the_same_as_no_column(tmp_path, values):
    EVENTS.write_parquet(tmp_path / "events.parquet")
    goods = GOODS.with_columns(file=pl.Series(values, dtype=pl.String))
    goods.write_parquet(tmp_path / "goods.parquet")
    named = table.read(tmp_path, with_(PARQUET, cover="file")).items["cover"]
    assert named.to_list() == ["", "", ""]
    assert table.read(tmp_path, PARQUET).items["cover"].to_list() == [None, None, None]


@pytest.mark.parametrize("columns", [TABLE, PARQUET])
@pytest.mark.parametrize("column", ["line", "row", "index"])
def test_a_column_may_be_called_anything(tmp_path, columns, column):
    for frame, name in (
        (EVENTS.rename({"who": column}), columns.interactions),
        (GOODS.rename({"name": column}), columns.items),
    ):
        write = frame.write_csv if name.endswith("csv") else frame.write_parquet
        write(tmp_path / name)
    raw = table.read(tmp_path, with_(columns, user=column, text=[column]))
    assert raw.interactions["user"].to_list() == ["7", "7", "8"]
    assert raw.items["text"].to_list() == ["Boots", None, None]


def test_a_timestamp_may_use_all_of_64_bits(tmp_path):
    GOODS.write_csv(tmp_path / "goods.csv")
    text = f"who,what,when\nu,a,{2**63 - 1}\nu,b,+5\nu,c,{-(2**63)}\n"
    (tmp_path / "events.csv").write_text(text)
    found = table.read(tmp_path, TABLE).interactions["timestamp"].to_list()
    assert found == [2**63 - 1, 5, -(2**63)]


def test_without_a_timestamp_the_file_is_in_order(tmp_path):
    EVENTS.write_csv(tmp_path / "events.csv")
    GOODS.write_csv(tmp_path / "goods.csv")
    raw = table.read(tmp_path, with_(TABLE, timestamp="", text=["name"]))
    assert raw.has_texts
    frame = raw.interactions
    assert frame["timestamp"].to_list() == [0, 0, 0]
    assert frame["line"].to_list() == [2, 3, 4]
    assert (raw.timed, raw.columns) == (False, "who,what")


def test_without_columns_of_text_none_is_missing(tmp_path):
    EVENTS.write_csv(tmp_path / "events.csv")
    GOODS.write_csv(tmp_path / "goods.csv")
    raw = table.read(tmp_path, with_(TABLE, text=[]))
    assert not raw.has_texts
    assert raw.items["text"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("changes", "both"),
    [
        ({"item": "who"}, "user and item both name 'who'; the rule is a column each"),
        ({"timestamp": "what"}, "item and timestamp both name 'what'"),
    ],
)
def test_a_column_is_one_thing(changes, both):
    with pytest.raises(ValidationError, match=both):
        table.Table(**TABLE.model_dump() | changes)


@pytest.mark.parametrize(
    "times",
    [
        [datetime(2020, 1, d) for d in (3, 1, 2)],
        [3.0, 1.0, 2.0],
        [3, 1, 2],
        [Decimal("3.00"), Decimal("1.00"), Decimal("2.00")],
    ],
)
def test_dates_and_whole_numbers_are_times(tmp_path, times):
    EVENTS.with_columns(when=pl.Series(times)).write_parquet(tmp_path / "events.parquet")
    GOODS.write_parquet(tmp_path / "goods.parquet")
    frame = table.read(tmp_path, PARQUET).interactions
    assert frame.sort("timestamp")["line"].to_list() == [2, 3, 1]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (None, r"events\.csv: no such file"),
        ("", r"events\.csv: the file is empty"),
        ("who,what\nu,a\n", r"no column 'when'; its columns are 'who', 'what'.*prepare\.table"),
        ("who,what,when\nu,a,1\nu,b,soon\n", r"events\.csv, line 3: 'when' is 'soon'; the rule is"),
        ("who,what,when\nu,a,1\n,b,2\n", r"line 3: 'who' is empty; every row needs this id"),
        ("who,what,when\nu,a,1\nu,,2\n", r"line 3: 'what' is empty"),
        ("who,what,when\nu,a,1\nu,b\n", r"line 3: 2 columns where the header has 3"),
        ("who,what,when\nu,a,1\nu,b,2,3\n", r"line 3: 4 columns where the header has 3"),
        (b"who,what,when\nu,a,1\nu,\xff,2\n", r"line 3: byte 0xff at place 3 is not UTF-8"),
        (
            f"who,what,when\nu,a,{2**63 - 1}\nu,b,{2**63}\n",
            r"line 3: 'when' is '9223372036854775808'; the rule is an integer of 64 bits",
        ),
        ("who,what,when\nu,a,1\nu,b,٣\n", r"line 3: 'when' is '٣'; the rule is an integer"),
        ('who,what,when\nu,a,1\nu"2,b,2\nu,c,3\n', r"line 3: a quote within a field"),
        (b"who,what,when\ru,a,1\ru,b,2\r", r"line 1: the line ends in a carriage return alone"),
        (
            "who,what,when\nu,a,1\nu,{}\n".format("b" * 200_000),
            r"line 3: 2 columns where the header has 3",
        ),
        ("who,what,when\n", r"events\.csv: not one interaction in it"),
    ],
)
def test_bad_interactions_stop_with_file_line_and_rule(tmp_path, events, message):
    GOODS.write_csv(tmp_path / "goods.csv")
    if events is not None:
        raw = events if isinstance(events, bytes) else events.encode()
        (tmp_path / "events.csv").write_bytes(raw)
    with pytest.raises(Stop, match=message):
        table.read(tmp_path, TABLE)


@pytest.mark.parametrize(
    ("goods", "message"),
    [
        ("sku,name\na,b\n", r"goods\.csv: no column 'blurb'; its columns are 'sku', 'name'"),
        ("sku,name,blurb\na,b,c\n,d,e\n", r"goods\.csv, line 3: 'sku' is empty"),
        ("sku,name,blurb\n", r"goods\.csv: not one item in it"),
        ("sku,name,blurb\na,b,c\nd,e,f,g\n", r"goods\.csv, line 3: 4 columns where the header"),
    ],
)
def test_bad_items_stop_with_file_line_and_rule(tmp_path, goods, message):
    EVENTS.write_csv(tmp_path / "events.csv")
    (tmp_path / "goods.csv").write_text(goods)
    with pytest.raises(Stop, match=message):
        table.read(tmp_path, TABLE)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("when", [1.0, 2.5, 3.0], r"events\.parquet, row 2: 'when' is '2\.5'; the rule is an int"),
        (
            "when",
            [Decimal("1.00"), Decimal("1.25"), Decimal("1.50")],
            r"row 2: 'when' is '1\.25'; the rule is an integer",
        ),
        ("when", [1, None, 3], r"row 2: 'when' is ''; the rule is an integer"),
        ("who", ["u", None, ""], r"row 2: 'who' is empty; every row needs this id"),
        ("what", ["u", "v", ""], r"row 3: 'what' is empty"),
    ],
)
def test_bad_parquet_rows_are_named(tmp_path, column, values, message):
    changed = EVENTS.with_columns(pl.Series(column, values, strict=False))
    changed.write_parquet(tmp_path / "events.parquet")
    GOODS.write_parquet(tmp_path / "goods.parquet")
    with pytest.raises(Stop, match=message):
        table.read(tmp_path, PARQUET)


def test_a_broken_parquet_file_is_named(tmp_path):
    EVENTS.write_parquet(tmp_path / "events.parquet")
    (tmp_path / "goods.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(Stop, match=r"goods\.parquet: can't be read as parquet: "):
        table.read(tmp_path, PARQUET)


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "goods.xlsx").write_bytes(b"1")
    with pytest.raises(Stop, match=r"the name ends in '\.xlsx'; the rule is \.csv or \.parquet"):
        table.read(tmp_path, with_(TABLE, items="goods.xlsx"))


def test_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "events.csv").write_text("who,what,when\nu,a,1\n\nu,b,2\n\n")
    (tmp_path / "goods.csv").write_text("sku,name,blurb\na,A,\n\nb,B,\n\n")
    raw = table.read(tmp_path, TABLE)
    assert raw.interactions["line"].to_list() == [2, 4]
    assert raw.items["id"].to_list() == ["a", "b"]


@pytest.mark.parametrize("name", ["../goods.csv", "/data/goods.csv", "a/../../goods.csv"])
def test_a_file_lies_in_the_domains_folder(name):
    with pytest.raises(ValidationError, match="lies outside the domain's folder"):
        with_(TABLE, items=name)


def write_parquet(folder, events=EVENTS, goods=GOODS):
    events.write_parquet(folder / PARQUET.interactions)
    goods.write_parquet(folder / PARQUET.items)


def test_nan_is_no_value(tmp_path):
    years = pl.Series("blurb", [float("nan"), 2.5, None])
    write_parquet(tmp_path, goods=GOODS.with_columns(years))
    assert table.read(tmp_path, PARQUET).items["text"].to_list() == ["Boots", "2.5", None]
    write_parquet(tmp_path, EVENTS.with_columns(who=pl.Series([7.0, float("nan"), 8.0])))
    with pytest.raises(Stop, match=r"events.parquet, row 2: 'who' is empty; every row needs"):
        table.read(tmp_path, PARQUET)


def test_a_column_of_another_kind_is_named(tmp_path):
    write_parquet(tmp_path, goods=GOODS.with_columns(blurb=pl.Series([["a"], ["b", "c"], []])))
    with pytest.raises(Stop, match=r"goods.parquet: the column 'blurb' is of type List\(String\)"):
        table.read(tmp_path, PARQUET)
    clock = EVENTS["when"].cast(pl.Time)
    write_parquet(tmp_path, EVENTS.with_columns(when=clock))
    with pytest.raises(Stop, match=r"events.parquet: the column 'when' is of type Time; the rule"):
        table.read(tmp_path, PARQUET)


def test_a_folder_of_parts_is_said_to_be_one(tmp_path):
    write_parquet(tmp_path)
    (tmp_path / PARQUET.items).unlink()
    (tmp_path / PARQUET.items).mkdir()
    with pytest.raises(Stop, match=r"goods.parquet: is a folder; the rule is one file"):
        table.read(tmp_path, PARQUET)

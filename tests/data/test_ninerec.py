"""NineRec's layout in its variants, and what stops the reader."""

import pytest

from pipeline.data import ninerec
from pipeline.data.files import Stop
from tests.data.raw_files import EVENTS, ITEMS, PAIRS, ninerec_folder


def rows(raw):
    return [
        (item, user, time)
        for user, item, time in raw.interactions.select("user", "item", "timestamp")
        .collect()
        .rows()
    ]


@pytest.mark.parametrize("order", ["item,user,timestamp", "user,item,timestamp"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_either_column_order_is_found_and_reported(tmp_path, order, end):
    swapped = order.startswith("user")
    pairs = "".join(
        f"{user},{item},{time}{end}" if swapped else f"{item},{user},{time}{end}"
        for item, user, time in EVENTS
    )
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs), "en")
    assert raw.columns == order
    assert rows(raw) == EVENTS
    assert (raw.size, raw.timed, raw.warnings) == (12, True, [])
    assert raw.interactions.collect()["line"].to_list() == list(range(1, 13))


def test_plain_numbers_as_ids_of_both(tmp_path):
    # every user id is an item id too: 1 and 2; but the item column is like the item table
    items = "".join(f"{i},,t\n" for i in range(1, 13))
    pairs = PAIRS.replace("v", "").replace("u", "")
    raw = ninerec.read(ninerec_folder(tmp_path, items, pairs), "en")
    assert raw.columns == "item,user,timestamp"
    assert raw.warnings == [
        "D_pair.csv: every id of either column is an item's id; taken as item,user, since the ids "
        "are 100% and 17% like the item table's; if that is wrong, give the user ids a prefix"
    ]


def test_two_columns_have_no_time(tmp_path):
    pairs = "".join(f"{user},{item}\n" for item, user, _ in EVENTS)
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs), "en")
    assert (raw.columns, raw.timed) == ("user,item", False)
    assert rows(raw) == [(item, user, 0) for item, user, _ in EVENTS]


@pytest.mark.parametrize("pairs", [None, "u2,v3\nu2,v1\n"])
def test_behaviour_is_read_where_no_pair_file_has_times(tmp_path, pairs):
    behaviour = "u1\tv9\nu2\tv3 v1 v3\n\nu1\tv2 v4 \n"
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs, behaviour=behaviour), "en")
    assert raw.source.name == "D_behaviour.tsv"
    frame = raw.interactions.sort("user", "line", "position").collect()
    assert list(zip(frame["user"], frame["item"], strict=True)) == [
        *[("u1", "v2"), ("u1", "v4")],  # the last line of a user counts
        *[("u2", "v3"), ("u2", "v1"), ("u2", "v3")],
    ]
    assert raw.size == 5
    assert raw.warnings == [
        "D_behaviour.tsv: 1 users' earlier lines were dropped, the last line of a user counts"
    ]


def test_a_pair_file_with_times_goes_before_behaviour(tmp_path):
    raw = ninerec.read(ninerec_folder(tmp_path, behaviour="u9\tv1 v2\n"), "en")
    assert raw.source.name == "D_pair.csv"


@pytest.mark.parametrize(("language", "text"), [("zh", "题1"), ("en", "title, 1")])
def test_language_picks_the_text(tmp_path, language, text):
    raw = ninerec.read(ninerec_folder(tmp_path), language)
    assert raw.items.row(0) == ("v1", text, None)


def test_texts_are_stripped_and_empty_is_null(tmp_path):
    items = 'v1,," A  B\u3000"\nv2,题,\nv3,,"  "\nv4,,"two\nlines"\n'
    raw = ninerec.read(ninerec_folder(tmp_path, items), "en")
    assert raw.items["text"].to_list() == ["A  B", None, None, "two\nlines"]


def test_the_first_of_duplicate_items_wins_with_a_warning(tmp_path):
    raw = ninerec.read(ninerec_folder(tmp_path, ITEMS + "v2,,other\nv2,,third\n"), "en")
    assert len(raw.items) == 12
    assert raw.items["text"][1] == "title, 2"
    assert raw.warnings == [
        "D_item.csv: 2 duplicate item rows, the first of each id was kept; ids: 'v2'"
    ]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (None, r"D_pair\.csv: no such file; the folder holds D_item\.csv"),
        (b"", r"D_pair\.csv: the file is empty"),
        (b"\n\n", r"D_pair\.csv, line 1: 0 columns; the rule is 2 or 3"),
        (b"v1\nv2\n", r"line 1: 1 columns; the rule is 2 or 3: item,user or user,item"),
        (b"v1,u1,1,x\n", r"line 1: 4 columns; the rule is 2 or 3"),
        (b"v1,u1,1\nv2,u1\n", r"line 2: 2 columns where line 1 has 3"),
        (b"v1,u1,1\nv2,u1,2,3\n", r"line 2: 4 columns where line 1 has 3"),
        (b"v1,u1\nv2,u1,2\n", r"line 2: 3 columns where line 1 has 2"),
        (b"item,user,timestamp\nv1,u1,1\n", r"line 1: the timestamp 'timestamp' is not an integer"),
        (b"v1,u1,1\nv1,u1,2020-09-16\n", r"line 2: the timestamp '2020-09-16' is not an integer"),
        (b"v1,u1,1\nv1,u1,1.5\n", r"line 2: the timestamp '1.5' is not an integer"),
        (b"v1,u1,1\nv1,u1,\n", r"line 2: the timestamp '' is not an integer.*without a header"),
        (b"v1,u1,1\n\nv1,,2\n", r"line 3: an id is empty \('v1,,2'\)"),
        (b"v1,u1,1\nv\xff,u1,2\n", r"line 2: byte 0xff at place 2 is not UTF-8"),
        (b'v1,u1,1\nv2,"u"1,2\n', r"line 2: not a row of a CSV file"),
        (b'v1,u1,1\nv2,"u1,2\nv3,u1,3\n', r"line 2: not a row of a CSV file"),
    ],
)
def test_bad_pairs_stop_with_file_line_and_rule(tmp_path, pairs, message):
    with pytest.raises(Stop, match=message):
        ninerec.read(ninerec_folder(tmp_path, pairs=pairs), "en")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (b"", r"D_behaviour\.tsv: the file is empty"),
        (b"u1\tv1\nu2 v3\n", r"D_behaviour\.tsv, line 2: 1 columns; the rule is 2: user<TAB>items"),
        (b"u1\tv1\nu2\tv3\tv4\n", r"line 2: 3 columns; the rule is 2"),
        (b"u1\tv1\nu2\t\n", r"line 2: the user or the items are empty \('u2', ''\)"),
        (b"u1\tv1\nu2\t \n", r"line 2: the user or the items are empty \('u2', ' '\)"),
        (b"u1\tv1\nu2\tv\xff\n", r"line 2: byte 0xff at place 5 is not UTF-8"),
    ],
)
def test_bad_behaviour_stops_with_file_line_and_rule(tmp_path, behaviour, message):
    with pytest.raises(Stop, match=message):
        ninerec.read(ninerec_folder(tmp_path, pairs=None, behaviour=behaviour), "en")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (None, r"D_item\.csv: no such file; the folder holds D_pair\.csv"),
        (b"", r"D_item\.csv: the file is empty"),
        (b"v1,,a\nv2,b\n", r"D_item\.csv, line 2: 2 columns; the rule is 3: item id, text in Chi"),
        (b"v1,,a\nv2,,b, c\n", r"line 2: 4 columns; .*quote a text that holds commas"),
        (b"v1,,a\n,,b\n", r"line 2: the item id is empty; every item needs one"),
        (b"v1,,a\nv2,,\xe9\n", r"line 2: byte 0xe9 at place 5 is not UTF-8"),
    ],
)
def test_bad_items_stop_with_file_line_and_rule(tmp_path, items, message):
    with pytest.raises(Stop, match=message):
        ninerec.read(ninerec_folder(tmp_path, items), "en")


def test_an_unknown_language_names_the_known(tmp_path):
    with pytest.raises(Stop, match=r"language 'fr' is not one of zh, en"):
        ninerec.read(ninerec_folder(tmp_path), "fr")

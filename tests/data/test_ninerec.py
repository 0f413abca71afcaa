"""NineRec's layout in its variants, and what stops the reader."""

import pytest

from pipeline.data import ninerec
from pipeline.data.files import Stop
from tests.data.raw_files import EVENTS, ITEMS, PAIRS, ninerec_folder


def rows(raw):
    return raw.interactions.select("item", "user", "timestamp").rows()


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
    assert (raw.timed, raw.warnings) == (True, [])
    assert raw.interactions["line"].to_list() == list(range(1, 13))


def test_plain_numbers_as_ids_of_both(tmp_path):
    # every user id is an item id too: 1 and 2; but the item column is like the item table
    items = "".join(f"{i},,t\n" for i in range(1, 13))
    pairs = PAIRS.replace("v", "").replace("u", "")
    raw = ninerec.read(ninerec_folder(tmp_path, items, pairs), "en")
    assert raw.columns == "item,user,timestamp"
    assert raw.warnings == [
        "D_pair.csv: every id of either column is an item's id; taken as item,user; the ids are "
        "100% and 17% like the item table's; if that is wrong, give the user ids a prefix"
    ]


def test_ids_that_are_all_known_go_before_likeness(tmp_path):
    # 12 of 100 items are used; half of the 90 users, 51..140, are called as an item is
    items = "".join(f"{i},,t\n" for i in range(1, 101))
    events = [(i % 12 + 1, user) for i, user in enumerate(range(51, 141))]
    for name, order in (("A", "item,user"), ("B", "user,item")):
        pairs = "".join(f"{a},{b}\n" if name == "A" else f"{b},{a}\n" for a, b in events)
        raw = ninerec.read(ninerec_folder(tmp_path, items, pairs, name=name), "en")
        assert raw.columns == order
        assert (
            "every id of one column alone is an item's id, though there are few"
            in (raw.warnings[0])
        )


def test_ids_that_are_known_of_neither_column_leave_it_to_likeness(tmp_path):
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=PAIRS + "v99,u1,1\n"), "en")
    assert (raw.columns, raw.warnings) == ("item,user,timestamp", [])


def test_columns_that_are_as_like_the_items_are_taken_as_published(tmp_path):
    """Both columns hold 1 and 2 of 12 items; NineRec's files begin with the item."""
    items = "".join(f"{i},,t\n" for i in range(1, 13))
    raw = ninerec.read(ninerec_folder(tmp_path, items, "1,2,5\n2,1,6\n"), "en")
    assert rows(raw) == [("1", "2", 5), ("2", "1", 6)]
    assert raw.columns == "item,user,timestamp"
    assert "every id of either column is an item's id" in raw.warnings[0]


def test_a_name_is_no_pattern(tmp_path):
    ninerec_folder(tmp_path / "a[1]", pairs="v1,u9,1\n", name="xzzy")
    for folder in ("a[1]", "a1"):
        ninerec_folder(tmp_path / folder, pairs="v2,u8,2\n" if folder == "a1" else PAIRS)
        ninerec_folder(tmp_path / folder, pairs="v3,u7,3\n", name="x*y")
    assert rows(ninerec.read(tmp_path / "a[1]" / "D", "en")) == EVENTS
    assert rows(ninerec.read(tmp_path / "a[1]" / "x*y", "en")) == [("v3", "u7", 3)]


def test_behaviour_in_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    behaviour = "u1\tv1 v2\n"
    folder = ninerec_folder(tmp_path / "a[1]", pairs=None, behaviour=behaviour)
    assert len(ninerec.read(folder, "en").interactions) == 2


def test_a_link_keeps_its_own_name(tmp_path):
    folder = ninerec_folder(tmp_path, name="D")
    (tmp_path / "store").mkdir()
    folder.rename(tmp_path / "store" / "0123")
    folder.symlink_to(tmp_path / "store" / "0123")
    assert len(ninerec.read(folder, "en").interactions) == 12


def test_timestamps_may_use_all_of_64_bits(tmp_path):
    times = [2**63 - 1, -(2**63), 5]
    pairs = f"v1,u1,{times[0]}\nv2,u1,{times[1]}\nv3,u1,+5\n"
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs), "en")
    assert [time for *_, time in rows(raw)] == times


def test_what_no_rule_blames_is_named_by_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(ninerec.lines, "blame", lambda *_, **__: None)
    with pytest.raises(
        Stop, match=r"D_pair\.csv, row 3: a value is missing; the rule is item,user"
    ):
        ninerec.read(ninerec_folder(tmp_path, pairs="v1,u1,1\n\nv2,u1,x\n"), "en")
    folder = ninerec_folder(tmp_path, pairs=None, behaviour="u1\tv1\nu2\t\n", name="E")
    with pytest.raises(Stop, match=r"E_behaviour\.tsv, line 2: a value is missing"):
        ninerec.read(folder, "en")


def test_a_long_list_of_items_is_one_field(tmp_path):
    many = " ".join(["v1"] * 60_000)  # 180,000 characters
    folder = ninerec_folder(tmp_path, pairs=None, behaviour=f"u1\t{many}\nu2\tv1\tv2\n")
    with pytest.raises(Stop, match=r"line 2: 3 columns; the rule is 2"):
        ninerec.read(folder, "en")


def test_two_columns_have_no_time(tmp_path):
    pairs = "".join(f"{user},{item}\n" for item, user, _ in EVENTS)
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs), "en")
    assert (raw.columns, raw.timed) == ("user,item", False)
    assert raw.warnings == ["D_pair.csv: no timestamps; the file's order is taken as that of time"]
    assert rows(raw) == [(item, user, 0) for item, user, _ in EVENTS]


@pytest.mark.parametrize("pairs", [None, "u2,v3\nu2,v1\n"])
def test_behaviour_is_read_where_no_pair_file_has_times(tmp_path, pairs):
    behaviour = "u1\tv9\nu2\tv3 v1 v3\n\nu1\tv2 v4 \n"
    raw = ninerec.read(ninerec_folder(tmp_path, pairs=pairs, behaviour=behaviour), "en")
    assert raw.source.name == "D_behaviour.tsv"
    assert raw.interactions.select("user", "item", "line").rows() == [
        *[("u2", "v3", 2), ("u2", "v1", 2), ("u2", "v3", 2)],
        *[("u1", "v2", 4), ("u1", "v4", 4)],  # the last line of a user counts
    ]
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
        (
            b"v1,u1,1\nv1,u1,9223372036854775807\nv2,u1,9223372036854775808\n",
            r"line 3: the timestamp '9223372036854775808' is not an integer of 64 bits",
        ),
        ("v1,u1,1\nv2,u1,٣\n".encode(), r"line 2: the timestamp '٣' is not an integer of 64 bits"),
        (b'v1,u1,1\nv"2,u1,2\nv3,u1,3\n', r"line 2: a quote within a field.*its quotes doubled"),
        (b'v1,u1,1\n"",u1,2\nv3,u1,3\n', r"line 2: an id is empty"),
        (b"v1,u1,1\rv2,u1,2\r", r"line 1: the line ends in a carriage return alone; .*line feed"),
        (b"v1,u1,1\nv2," + b"u" * 140_000 + b"\n", r"line 2: 2 columns where line 1 has 3"),
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
        (b"\n", r"D_behaviour\.tsv: not one line of data in it; download or write it again"),
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

"""RecBole's atomic files in their variants, and what stops the reader."""

import pytest

from pipeline.data import prepare, recbole
from pipeline.data.files import Stop
from tests.data.raw_files import PROTOCOL, TABLE, settings, written

COLUMNS = TABLE.model_copy(
    update={"user": "user_id", "item": "item_id", "timestamp": "timestamp", "id": "item_id",
            "text": ["title"]}
)  # fmt: skip
INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "u1\ta\t5\t30\nu2\tb\t1\t10\nu1\tc\t4\t978300760.0\n"
)
ITEM = "item_id:token\ttitle:token_seq\tclass:token_seq\na\tA film\tcrime drama\nb\t\tcomedy\n"


def folder(root, inter=INTER, item=ITEM):
    return written(root / "D", {"D.inter": inter, "D.item": item})


def columns(**changes):
    return COLUMNS.model_copy(update=changes)


def rows(raw):
    return raw.interactions.select("user", "item", "timestamp").rows()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_atomic_files_are_read(tmp_path, end):
    raw = recbole.read(folder(tmp_path, INTER.replace("\n", end), ITEM.replace("\n", end)), COLUMNS)
    assert rows(raw) == [("u1", "a", 30), ("u2", "b", 10), ("u1", "c", 978_300_760)]
    assert raw.interactions["line"].to_list() == [2, 3, 4]
    assert raw.items.rows() == [("a", "A film", None), ("b", None, None)]
    assert (raw.timed, raw.columns, raw.has_texts) == (True, "user_id,item_id,timestamp", True)
    assert raw.source.name == "D.inter"


def test_fields_stand_in_any_order_under_any_name(tmp_path):
    inter = "line:float\twhat:token\tuser:token\twho:token\n1\ta\tx\tu1\n"
    item = 'line:float\tname:token\tsku:token\timg:token\n1\tA "big" film\ta\ta.jpg\n2\tB\tb\t\n'
    own = columns(user="who", item="what", timestamp="", id="sku", text=["name"], cover="img")
    raw = recbole.read(folder(tmp_path, inter, item), own)
    assert (rows(raw), raw.timed) == ([("u1", "a", 0)], False)
    assert raw.items.rows() == [("a", 'A "big" film', "a.jpg"), ("b", "B", "")]


def test_a_name_may_hold_a_colon_and_the_file_a_byte_order_mark(tmp_path):
    inter = "\ufeff" + INTER.replace("user_id:", "user:id:")
    raw = recbole.read(folder(tmp_path, inter), columns(user="user:id"))
    assert [user for user, *_ in rows(raw)] == ["u1", "u2", "u1"]


def test_a_link_keeps_its_own_name(tmp_path):
    made = folder(tmp_path)
    made.rename(tmp_path / "store")
    made.symlink_to(tmp_path / "store")
    assert len(recbole.read(made, COLUMNS).interactions) == 3


def test_texts_are_joined(tmp_path):
    raw = recbole.read(folder(tmp_path), columns(text=["title", "class"]))
    assert raw.items["text"].to_list() == ["A film. crime drama", "comedy"]


@pytest.mark.parametrize(("item", "text"), [(None, ["title"]), (ITEM, [])])
def test_without_texts_none_is_missing(tmp_path, item, text):
    inter = "user_id:token\titem_id:token\n" + "".join(f"u\t{i}\n" for i in range(12))
    item = item and "item_id:token\n" + "".join(f"{i}\n" for i in range(12))
    raw = recbole.read(folder(tmp_path, inter, item), columns(timestamp="", text=text))
    assert not raw.has_texts
    domain, _ = prepare.prepare("films", raw, settings(max_missing=0.0), PROTOCOL)
    assert (len(domain.items), domain.items["text"].null_count()) == (12, 12)


def test_the_first_of_duplicate_items_wins_with_a_warning(tmp_path):
    raw = recbole.read(folder(tmp_path, item=ITEM + "a\tAgain\t\n"), COLUMNS)
    assert raw.items["text"][0] == "A film"
    assert raw.warnings == [
        "D.item: 1 duplicate item rows, the first of each id was kept; ids: 'a'"
    ]


def test_what_a_line_lacks_at_its_end_is_empty(tmp_path):
    head = "user_id:token\titem_id:token\trating:float\n"
    made = folder(tmp_path, head + "\nu\ta\nu\tb\t5\n", ITEM + "c\n")
    raw = recbole.read(made, columns(timestamp="", text=["title", "class"]))
    assert rows(raw) == [("u", "a", 0), ("u", "b", 0)]
    assert raw.interactions["line"].to_list() == [3, 4]
    assert raw.items.rows()[2] == ("c", None, None)


HEAD = b"user_id:token\titem_id:token\ttimestamp:float\n"


@pytest.mark.parametrize(
    ("inter", "message"),
    [
        (None, r"D\.inter: no such file; the folder holds D\.item"),
        (b"", r"D\.inter: the file is empty"),
        (b"user_id\titem_id\n", r"D\.inter, line 1: 'user_id' is not a valid field of a header"),
        (b"u1\ta\t5\n", r"line 1: 'u1' is not a valid field of a header; the rule is name:type"),
        (b"user_id:str\n", r"'user_id:str' .* a type is one of token, token_seq, float, float_seq"),
        (b"a:token\ta:float\n", r"line 1: the field 'a' is listed twice; rename one"),
        (
            b"uid:token\titem_id:token\n",
            r"D\.inter, line 1: no field 'user_id'; its fields are 'uid', 'item_id'\. Name it in "
            r"params\.yaml, prepare\.table\.user$",
        ),
        (
            b"user_id:token\titem_id:token\n",
            r"no field 'timestamp'; .*prepare\.table\.timestamp \(\"\" if there is none\)",
        ),
        (
            b"user_id:float\titem_id:token\n",
            r"the field 'user_id' is of type 'float'; the rule for prepare\.table\.user is token",
        ),
        (HEAD, r"D\.inter: not one line of data in it"),
        (HEAD + b"u\ta\t1\nu\tb\n", r"D\.inter, line 3: the timestamp '' is not a number"),
        (HEAD + b"u\ta\t1\t2\n", r"line 2: 4 columns where line 1 has 3, with a tab between"),
        (HEAD + b"u a 1\n", r"line 2: 'item_id' is empty; the rule is 3 fields with a tab between"),
        (HEAD + b"u\ta\t1\n\n\tb\t2\n", r"line 4: 'user_id' is empty; the rule is 3 fields"),
        (HEAD + b"u\t\t1\n", r"line 2: 'item_id' is empty"),
        (HEAD + b"u\ta\t1\nu\tb\tnow\n", r"line 3: the timestamp 'now' is not a number of at most"),
        (HEAD + b"u\ta\t1\nu\tb\t\n", r"line 3: the timestamp '' is not a number"),
        (HEAD + b"u\t\xff\t1\n", r"line 2: byte 0xff at place 3 is not UTF-8"),
    ],
)
def test_bad_interactions_stop_with_file_line_and_rule(tmp_path, inter, message):
    with pytest.raises(Stop, match=message):
        recbole.read(folder(tmp_path, inter), COLUMNS)


@pytest.mark.parametrize(
    ("item", "changes", "message"),
    [
        (b"", {}, r"D\.item: the file is empty"),
        (b"item_id:token\tmovie_title:token_seq\n", {},
         r"D\.item, line 1: no field 'title'; its fields are 'item_id', 'movie_title'\. Name it in "
         r"params\.yaml, prepare\.table\.text \(\[\] if there is none\)"),
        (b"iid:token\ttitle:token\n", {}, r"no field 'item_id'; .*prepare\.table\.id$"),
        (ITEM, {"cover": "img"}, r"no field 'img'; .*prepare\.table\.cover \(\"\" if there is no"),
        (ITEM + "c\tx\ty\tz\n", {}, r"D\.item, line 4: 4 columns where line 1 has 3"),
        (ITEM + "\tx\ty\n", {}, r"D\.item, line 4: 'item_id' is empty; it is the id"),
    ],
)  # fmt: skip
def test_bad_items_stop_with_file_line_and_rule(tmp_path, item, changes, message):
    with pytest.raises(Stop, match=message):
        recbole.read(folder(tmp_path, item=item), columns(**changes))

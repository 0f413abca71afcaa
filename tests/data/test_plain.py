"""Plain text: user and item on a line, and what stops the reader."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.data import card, events, plain, prepare, readers, sequences
from pipeline.data.files import Stop
from tests.data.raw_files import PROTOCOL, TABLE, settings, written

ML1M = Path(__file__).parents[3] / "shared/data/ml1m_sasrec/ml-1m.txt.gz"


def folder(root, text, name="D"):
    return written(root / name, {f"{name}.txt": text})


def rows(raw):
    return raw.interactions.select("user", "item", "timestamp").rows()


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_files_order_is_the_time_order(tmp_path, separator, end):
    pairs = [("2", "30"), ("1", "20"), ("2", "10"), ("1", "30"), ("2", "30")]
    text = end.join(["", *map(separator.join, pairs)])  # line 1 is blank
    raw = plain.read(folder(tmp_path, text), "en")
    assert rows(raw) == [(*pair, 0) for pair in pairs]
    assert raw.interactions["line"].to_list() == [2, 3, 4, 5, 6]
    assert (raw.timed, raw.columns, raw.has_texts, raw.warnings) == (False, "user,item", False, [])
    assert raw.items.rows() == [("10", None, None), ("20", None, None), ("30", None, None)]


def test_timestamps_sort_and_the_files_order_breaks_their_ties(tmp_path):
    raw = plain.read(folder(tmp_path, "u a 5\nu b 3\nu c 5\nu d -1\nu e 3\n"), "en")
    assert raw.timed
    numbers = events.numbers(raw.interactions, raw.items["id"])
    ordered = events.put_in_order(raw.interactions, numbers).histories
    assert raw.items["id"].gather(ordered.items - 1).to_list() == ["d", "b", "e", "a", "c"]


def test_timestamps_may_have_points_and_exponents(tmp_path):
    whole = [2**63 - 1, 2**62 + 1, -(2**63)]  # the first as a float is 2^63, past 64 bits
    text = "".join(f"u a {time}\n" for time in whole)
    raw = plain.read(folder(tmp_path, f"{text}u b 3.0\nu c 9.78E8\n"), "en")
    assert [time for *_, time in rows(raw)] == [*whole, 3, 978_000_000]
    assert raw.warnings == []


def test_timestamps_with_fractions_are_kept_in_millionths(tmp_path):
    text = "u a 1.5\nu b 1.25\nu c 2\nu d 1.000001\n"  # 1.000001 * 1e6 is 1000000.9999999999
    raw = plain.read(folder(tmp_path, text), "en")
    assert [time for *_, time in rows(raw)] == [1_500_000, 1_250_000, 2_000_000, 1_000_001]
    assert raw.warnings == ["D.txt: timestamps have fractions, and were taken in millionths"]


def test_quotes_are_letters(tmp_path):
    raw = plain.read(folder(tmp_path, 'u"1 "a\n'), "en")
    assert rows(raw) == [('u"1', '"a', 0)]


def test_an_item_table_gives_texts_and_decides_what_is_known(tmp_path):
    made = folder(tmp_path, "u a\nu b\nu c\n")
    (made / "D_item.csv").write_text("b,题,two\na,,one\nb,,again\n")
    raw = plain.read(made, "en")
    assert raw.items.rows() == [("b", "two", None), ("a", "one", None)]
    assert raw.has_texts
    assert raw.warnings == [
        "D_item.csv: 1 duplicate item rows, the first of each id was kept; ids: 'b'"
    ]
    assert events.numbers(raw.interactions, raw.items["id"]).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"D\.txt: the file is empty"),
        (b"\n\n", r"D\.txt: not one line of data in it; the rule is user item, then perhaps"),
        (b"u\n", r"D\.txt, line 1: 'u' is not a valid interaction; the rule is user item"),
        (b"u a 1 2\n", r"line 1: 'u a 1 2' is not a valid interaction; the rule is"),
        (
            b"u  a\n",
            r"line 1: 'u  a' is not a valid interaction; .*with one blank or one tab .*\(awk '",
        ),
        (b"u,a\n", r"line 1: 'u,a' is not a valid interaction"),
        (b"u a\nv b 3\n", r"line 2: 3 columns where the first line has 2; the rule is user item"),
        (b"u a 1\nv b\n", r"line 2: 2 columns where the first line has 3"),
        (b"u a\n\nv\n", r"line 3: 1 columns where the first line has 2"),
        (b"u a\nv  b\n", r"line 2: two separators in a row, or one at an end; .*\(awk"),
        (b"u a\nv b \n", r"line 2: two separators in a row, or one at an end"),
        (b"u a\nv \n", r"line 2: an id is empty \(\['v', ''\]\)"),
        (b"u a\n b\n", r"line 2: an id is empty"),
        (b"u a 1\nv b x\n", r"line 2: the timestamp 'x' is not a number of at most 64 bits; the r"),
        (b"u a 1\nv b \n", r"line 2: the timestamp '' is not a number"),
        (b"u a 1\nv b nan\n", r"line 2: the timestamp 'nan' is not a number"),
        (b"u a 1\nv b 1e300\n", r"line 2: the timestamp '1e300' is not a number"),
        (b"u a 0.5\nv b -1e13\n", r"D\.txt: some timestamps have fractions, and others are above"),
        (b"u a 0.5\nv b 1e13\n", r"D\.txt: some timestamps have fractions, and others are above"),
        (b"u a\nv \xff\n", r"line 2: byte 0xff at place 3 is not UTF-8; convert the file \(iconv"),
        (
            b"user_id item_id\n1 20\n2 30\n",
            r"line 1: \['user_id', 'item_id'\] is a header, all oth",
        ),
        (
            b"\nuser\titem\n1\t20\n",
            r"line 2: .* is a header, .*without a header; remove the line",
        ),
        (b"u i t\n1 20 3\n", r"line 1: the timestamp 't' is not a number .*without a header"),
        (
            b"u a\rv b\r",
            r"line 1: 'u a\\r' is not a valid interaction|line 1: the line ends in a carriage",
        ),
    ],
)
def test_bad_lines_stop_with_file_line_and_rule(tmp_path, text, message):
    with pytest.raises(Stop, match=message):
        plain.read(folder(tmp_path, text), "en")


@pytest.mark.parametrize("text", ["a b\n", "a 1\n1 2\n", "a b\n1 x\n", "x1 a\n1 2\n", "1 2\n3 a\n"])
def test_a_first_line_that_may_be_ids_is_one_of_data(tmp_path, text):
    assert len(plain.read(folder(tmp_path, text), "en").interactions) == text.count("\n")


@pytest.mark.skipif(not shutil.which("awk"), reason="no awk here")
@pytest.mark.parametrize(
    "text", ["u a\nv  b\n", "u a\nv b  \n", "u\ta\nv\t\tb\n", "u\ta\nv\tb\t\n"]
)
def test_the_hint_on_separators_mends_them(tmp_path, text):
    made = folder(tmp_path, text)
    with pytest.raises(Stop, match="two separators in a row") as stop:
        plain.read(made, "en")
    hint = re.search(r"\(awk '(.*)',", str(stop.value))[1]
    mended = subprocess.run(["awk", hint, made / "D.txt"], capture_output=True, check=True)
    (made / "D.txt").write_bytes(mended.stdout)
    assert rows(plain.read(made, "en")) == [("u", "a", 0), ("v", "b", 0)]


def test_the_file_is_called_as_its_folder_or_is_the_only_one(tmp_path):
    made = folder(tmp_path, "u a\n")
    (made / "D.txt").rename(made / "ml-1m.txt")
    assert plain.read(made, "en").source.name == "ml-1m.txt"
    (made / "README.txt").write_text("see elsewhere\n")
    message = r"D: which file is it, README\.txt, ml-1m\.txt\? Call it D\.txt, as its folder"
    with pytest.raises(Stop, match=message):
        plain.read(made, "en")
    (made / "ml-1m.txt").rename(made / "D.txt")
    assert plain.read(made, "en").source.name == "D.txt"
    for file in made.iterdir():
        file.rename(file.with_suffix(".csv"))
    with pytest.raises(Stop, match=r"D/D\.txt: no such file; the folder holds D\.csv, README\.csv"):
        plain.read(made, "en")


def test_without_texts_none_is_missing(tmp_path):
    text = "".join(f"u{user} {item}\n" for user in range(3) for item in range(12))
    raw = plain.read(folder(tmp_path, text), "en")
    domain, _ = prepare.prepare("films", raw, settings(max_missing=0.0), PROTOCOL)
    assert domain.items["text"].null_count() == 12
    (tmp_path / "D/D_item.csv").write_text("".join(f"{item},题,\n" for item in range(12)))
    raw = plain.read(tmp_path / "D", "en")
    with pytest.raises(Stop, match="films: no text for 12 of 12 items"):
        prepare.prepare("films", raw, settings(max_missing=0.0), PROTOCOL)


@pytest.mark.skipif(not ML1M.is_file(), reason=f"no real data in {ML1M}")
def test_the_file_of_the_sasrec_paper(tmp_path):
    made = folder(tmp_path, gzip.decompress(ML1M.read_bytes()), name="ml-1m")
    raw = readers.read("plain", made, "en", TABLE)
    domain, counts = prepare.prepare("ml1m", raw, settings(max_missing=0.0), PROTOCOL)
    found = card.card("ml1m", raw, domain, counts, PROTOCOL)
    assert (found["users"], found["items"], found["interactions"]) == (6040, 3416, 999_611)
    assert found["time"] is None
    lines = [line.split() for line in (made / "ml-1m.txt").read_text().splitlines()]
    of_first = [item for user, item in lines if user == domain.users["id"][0]]
    own = sequences.take(domain.sequences, [0]).items
    assert domain.items["id"].gather(own - 1).to_list() == of_first

"""Line numbers are those an editor shows."""

import pytest

from pipeline.data import lines
from pipeline.data.files import Stop


def test_rows_know_their_line(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes('\ufeffa,"one\ntwo"\r\n\nb,"say ""hi"""\n'.encode())
    assert list(lines.rows(file)) == [(1, ["a", "one\ntwo"]), (4, ["b", 'say "hi"'])]


def test_blame_names_the_line_and_the_rule(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("a\nb\nbad\n")
    with pytest.raises(Stop, match=r"x\.csv, line 3: 'bad' has three letters"):
        lines.blame(file, lambda row: f"{row[0]!r} has three letters" if len(row[0]) > 1 else None)


def test_blame_begins_at_a_line(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("head\nbad\nworse\n")
    with pytest.raises(Stop, match=r"line 2: bad$"):
        lines.blame(file, lambda row: row[0], first=2)


def test_what_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes(b"a,b\n" * 5000 + b"a,\xe9t\xe9\n")
    with pytest.raises(Stop, match=r"line 5001: byte 0xe9 at place 3 is not UTF-8; .*iconv"):
        list(lines.rows(file))


def test_broken_quoting_is_named(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text('a,b\nc,"d"e\n')
    with pytest.raises(Stop, match=r"line 2: not a row of a CSV file .*its quotes doubled"):
        list(lines.rows(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"x\.csv: no such file; the folder holds y\.csv"), (b"", r"x\.csv: the file is empty")],
)
def test_a_file_must_hold_something(tmp_path, content, message):
    (tmp_path / "y.csv").write_text("1")
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(Stop, match=message):
        lines.check_file(tmp_path / "x.csv")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(Stop, match=r"gone: no such folder; x\.csv is read from it"):
        lines.check_file(tmp_path / "gone" / "x.csv")


def test_a_quote_in_quotes_is_none_within_a_field(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text('"say ""hi""",b\n"two\nlines",""\nc,"d"\n')
    lines.blame(file, lambda _: None)
    file.write_text('"a",b\nc,d"e\n')
    with pytest.raises(Stop, match=r"line 2: a quote within a field"):
        lines.blame(file, lambda _: None)
    lines.blame(file, lambda _: None, quoted=False)


def test_a_field_without_end_is_named_by_the_line_it_begins_at(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text('a,b\nc,"d\n' + "x,y\n" * 5_000_000)
    with pytest.raises(
        Stop, match=r"line 2: not a row of a CSV file \(field larger than field limit"
    ):
        list(lines.rows(file))


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("0", True), ("-5", True), ("+5", True), (str(2**63 - 1), True), (str(-(2**63)), True),
        ("0" * 9 + str(2**63 - 1), True), (str(2**63), False), (str(-(2**63) - 1), False),
        ("", False), ("1.0", False), ("1e3", False), (" 1", False), ("٣", False), ("1_0", False),
    ],
)  # fmt: skip
def test_integers_are_those_of_64_bits(text, whole):
    assert lines.is_integer(text) == whole


BROKEN = b'a,b\n\nc,"d\n\xff,e\nf"g,1\nh,i,j\n"k\nl",m\nlast,"x"'


def test_a_survey_goes_on_after_broken_rows(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes(BROKEN)

    def rule(row):
        return None if len(row) == 2 else f"{len(row)} columns"

    found = list(lines.survey(file, rule))
    assert [(line, row) for line, row, problem in found if problem is None] == [
        (1, ["a", "b"]),
        (9, ["last", "x"]),
    ]
    problems = {line: problem for line, _, problem in found if problem}
    assert [*problems] == [3, 4, 5, 6, 7, 8], "a quote without end spoils its own line alone"
    assert "not a row of a CSV file (unexpected end of data)" in problems[3]
    assert problems[4].startswith("byte 0xff at place 1 is not UTF-8; convert the file (iconv -f ")
    assert problems[5].startswith("a quote within a field")
    assert problems[6] == "3 columns"


def test_a_survey_of_fields_that_span_lines(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes(BROKEN)
    found = {line: (row, problem) for line, row, problem in lines.survey(file, len, spans=True)}
    assert found[7] == (["k\nl", "m"], 2), "the rule is asked of a row that can be read"
    assert "not a row of a CSV file" in found[3][1]

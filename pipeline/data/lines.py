"""Rows of a text table with their line numbers: slow, exact, for small files and for blame."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO

from pipeline.data.files import Stop

LONGEST = 1 << 24  # characters of a field; more means that a quote is not closed
csv.field_size_limit(LONGEST)  # as it comes, 131,072: less than a title page, or a user's items
QUOTING = 'a field that holds quotes, commas or line breaks stands in "…", its quotes doubled'
ROW = "\0row"  # numbers the lines or rows of a table; no column is called so
INTEGER = re.compile("[+-]?0{0,99}[0-9]{1,19}")
QUOTED = re.compile('(?:^|(?<=,))"(?:[^"]|"")*"(?=,|\r?\n?$)')


def check_file(path: Path) -> None:
    """Stop unless a file is there and has something in it.

    Raises:
        Stop: the file is missing, not a file, or empty.
    """
    if not path.parent.is_dir():
        raise Stop(f"{path.parent}: no such folder; {path.name} is read from it")
    if path.is_dir():
        raise Stop(f"{path}: is a folder; the rule is one file, so write its parts as one")
    if not path.is_file():
        found = sorted(p.name for p in path.parent.iterdir() if p.is_file())[:5]
        raise Stop(f"{path}: no such file; the folder holds {', '.join(found) or 'no file'}")
    if path.stat().st_size == 0:
        raise Stop(f"{path}: the file is empty; download or write it again")


def rows(path: Path, delimiter: str = ",", quoted: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Read a table row by row: (line its row begins at, from 1; its fields). Skips blank lines.

    Raises:
        Stop: a line is not UTF-8, breaks the rules of quoting, or holds a field of more than
            LONGEST characters.
    """
    for line, row, _ in _rows(path, delimiter, quoted):
        yield line, row


def _rows(path: Path, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str], str]]:
    """Read a table row by row, each with its text as it stands in the file."""
    with _open(path) as file:
        for line, row, text, problem in _spanning(file, delimiter, quoted):
            if problem := problem or _not_text(text):
                raise Stop(f"{path}, line {line}: {problem}")
            if row:
                yield line, row, text


def blame(
    path: Path,
    rule: Callable[[list[str]], str | None],
    delimiter: str = ",",
    quoted: bool = True,
    first: int = 1,
) -> None:
    """Stop at the first row that breaks a rule; the rule says how, or None where all is well.

    Args:
        path: the file; blank lines are skipped.
        rule: says how a row breaks it.
        delimiter: what stands between two fields.
        quoted: whether quotes mean anything.
        first: the line that the rule holds from.

    Raises:
        Stop: a row breaks the rule, or the file is no readable table at all.
    """
    for line, row, text in _rows(path, delimiter, quoted):
        if line >= first and (problem := _unreadable(text, quoted) or rule(row)):
            raise Stop(f"{path}, line {line}: {problem}")


def survey(
    path: Path,
    rule: Callable[[list[str]], str | None],
    delimiter: str = ",",
    quoted: bool = True,
    spans: bool = False,
) -> Iterator[tuple[int, list[str], str | None]]:
    """Read a table row by row, the broken rows too: (its line, its fields, what is wrong or None).

    Args:
        path: the file; blank lines are skipped.
        rule: says how a row breaks it, or None where all is well.
        delimiter: what stands between two fields.
        quoted: whether quotes mean anything.
        spans: whether a field may hold line breaks; if not, a quote that is not closed spoils its
            own line alone.
    """
    read = _spanning if spans else _single
    with _open(path) as file:
        for line, row, text, problem in read(file, delimiter, quoted):
            if row or problem:
                found = problem or _unreadable(text, quoted) or _not_text(text)
                yield line, row, found or rule(row)


# line, fields, the text as it stands in the file, what is wrong
_Row = tuple[int, list[str], str, str | None]


def _single(file: Iterable[str], delimiter: str, quoted: bool) -> Iterator[_Row]:
    """Read each line as a row."""
    for line, text in enumerate(file, 1):
        if quoted and '"' in text:
            for _, row, _, problem in _spanning([text], delimiter, quoted):
                yield line, row, text, problem
        else:  # as the reader would, and faster
            row = text.rstrip("\r\n").split(delimiter)
            yield line, row if row != [""] else [], text, None


def _spanning(file: Iterable[str], delimiter: str, quoted: bool) -> Iterator[_Row]:
    """Read rows whose fields may hold line breaks; after a broken one go on with the next line."""
    text: list[str] = []
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(_kept(file, text), delimiter=delimiter, strict=True, quoting=quoting)
    while True:
        line = reader.line_num + 1
        text.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, [], "".join(text), f"not a row of a CSV file ({error}); {QUOTING}"
        else:
            yield line, row, "".join(text), None


def _kept(lines: Iterable[str], text: list[str]) -> Iterator[str]:
    """Hand lines on, and keep them."""
    for one in lines:
        text.append(one)
        yield one


def _open(path: Path) -> TextIO:
    """Open a text whose bytes that are not UTF-8 are kept, for `_not_text` to find."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _not_text(text: str) -> str | None:
    """Say which byte of a row, as it stands in the file, is not UTF-8."""
    if text.isascii():
        return None
    content = text.encode(errors="surrogateescape")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x} at place {error.start + 1}"
        return f"{byte} is not UTF-8; convert the file (iconv -f GB18030 -t UTF-8 if Chinese)"
    return None


def is_integer(text: str) -> bool:
    """Tell whether a text is a whole number of 64 bits, as a timestamp is."""
    return bool(INTEGER.fullmatch(text)) and -(2**63) <= int(text) < 2**63


def _unreadable(text: str, quoted: bool) -> str | None:
    """Say what in a row, as it stands in the file, Python's reader takes and Polars does not."""
    if text.endswith("\r"):
        return (
            "the line ends in a carriage return alone; the rule is a line feed at its end "
            "(tr '\\r' '\\n')"
        )
    if quoted and '"' in text and '"' in QUOTED.sub("", text):
        return f"a quote within a field; {QUOTING}"
    return None

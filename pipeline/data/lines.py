"""Rows of a text table with their line numbers: slow, exact, for small files and for blame."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipeline.data.files import Stop

LONGEST = 1 << 24  # characters of a field; more means that a quote is not closed
csv.field_size_limit(LONGEST)  # as it comes, 131,072: less than a title page, or a user's items
INTEGER = re.compile("[+-]?0{0,99}[0-9]{1,19}")
QUOTED = re.compile('(?:^|(?<=,))"(?:[^"]|"")*"(?=,|\r?\n?$)')


def check_file(path: Path) -> None:
    """Stop unless a file is there and has something in it.

    Raises:
        Stop: the file is missing, not a file, or empty.
    """
    if not path.parent.is_dir():
        raise Stop(f"{path.parent}: no such folder; {path.name} is read from it")
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
    text: list[str] = []  # the lines of the row at hand

    def kept(lines: Iterable[str]) -> Iterator[str]:
        for one in lines:
            text.append(one)
            yield one

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            kept(file),
            delimiter=delimiter,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row, "".join(text)
                line = reader.line_num + 1
                text.clear()
        except UnicodeDecodeError:
            raise Stop(_not_utf8(path)) from None
        except csv.Error as error:
            raise Stop(
                f"{path}, line {line}: not a row of a CSV file ({error}); a field that holds "
                'quotes, commas or line breaks stands in "…", its quotes doubled'
            ) from None


def blame(
    path: Path, rule: Callable[[list[str]], str | None], delimiter: str = ",", quoted: bool = True
) -> None:
    """Stop at the first row that breaks a rule; the rule says how, or None where all is well.

    Raises:
        Stop: a row breaks the rule, or the file is no readable table at all.
    """
    for line, row, text in _rows(path, delimiter, quoted):
        if problem := _unreadable(text, quoted) or rule(row):
            raise Stop(f"{path}, line {line}: {problem}")


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
    if quoted and '"' in QUOTED.sub("", text):
        return 'a quote within a field; a field that holds quotes stands in "…", its quotes doubled'
    return None


def _not_utf8(path: Path) -> str:
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            try:
                content.decode()
            except UnicodeDecodeError as error:
                byte = content[error.start]
                return (
                    f"{path}, line {line}: byte 0x{byte:02x} at place {error.start + 1} is not "
                    "UTF-8; convert the file (iconv -t UTF-8)"
                )
    return f"{path}: not UTF-8; convert the file (iconv -t UTF-8)"

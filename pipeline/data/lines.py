"""Rows of a text table with their line numbers: slow, exact, for small files and for blame."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.data.files import Stop


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
        Stop: a line is not UTF-8 or breaks the rules of quoting.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            file,
            delimiter=delimiter,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
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
    for line, row in rows(path, delimiter, quoted):
        if problem := rule(row):
            raise Stop(f"{path}, line {line}: {problem}")


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

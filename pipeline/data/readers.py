"""Raw formats by name: each gives the same canonical tables."""

from collections.abc import Callable
from pathlib import Path

from pipeline.data import ninerec, plain, recbole, table
from pipeline.data.files import Stop
from pipeline.data.raw import Raw

# format -> (folder, language, the section prepare.table) -> what the folder holds
READERS: dict[str, Callable[[Path, str, table.Table], Raw]] = {
    "ninerec": lambda folder, language, _: ninerec.read(folder, language),
    "plain": lambda folder, language, _: plain.read(folder, language),
    "recbole": lambda folder, _, columns: recbole.read(folder, columns),
    "table": lambda folder, _, columns: table.read(folder, columns),
}


def read(form: str, folder: Path, language: str, columns: table.Table) -> Raw:
    """Read a domain's raw folder.

    Raises:
        Stop: the format is unknown, or the files can't be used.
    """
    if form not in READERS:
        raise Stop(f"format {form!r} of {folder} is not one of {', '.join(READERS)}")
    if not folder.is_dir():
        raise Stop(f"{folder}: no such folder; it should hold the raw files of a domain")
    return READERS[form](folder, language, columns)

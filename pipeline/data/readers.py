"""Raw formats by name: each gives the same canonical tables."""

from collections.abc import Callable
from pathlib import Path

from pipeline.data import ninerec, plain, recbole, table
from pipeline.data.files import Stop
from pipeline.data.raw import Raw

RATINGS = 20  # different values that a scale of ratings has at most
MANY = 100  # interactions, of which so few different times would be odd

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
    found = READERS[form](folder, language, columns)
    return found._replace(warnings=[*found.warnings, *_doubts(found)])


def _doubts(found: Raw) -> list[str]:
    """Warn of times that look like ratings, by which a history would be put in order."""
    times = found.interactions["timestamp"]
    if not found.timed or len(times) < MANY or times.head(MANY).n_unique() > RATINGS:
        return []
    values = times.n_unique()
    if values > RATINGS:
        return []
    return [
        f"{found.source.name}: its {len(times):,} timestamps have {values} different values; if "
        "they are ratings, leave the column out, or histories are in the order of ratings"
    ]

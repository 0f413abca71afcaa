"""Plain text: D.txt, a line an interaction: user, item, perhaps a time; D_item.csv if any."""

from pathlib import Path

import polars as pl

from pipeline.data import fields, ids, lines, ninerec, raw
from pipeline.data.files import Stop

COLUMNS = ["user", "item", "timestamp"]
RULE = "user item, then perhaps a timestamp, with one blank or one tab between, without a header"
SINGLE = "(awk '{$1 = $1} 1', if no id holds a blank)"


def read(folder: Path, language: str) -> raw.Raw:
    """Read a folder D of plain text: D.txt or its only .txt, and NineRec's D_item.csv if any.

    Without timestamps the file's order is the time order; with them it breaks their ties. Without
    an item table the items are those that occur, and none has a text.

    Raises:
        Stop: a file is missing, empty, or has a line that breaks its rule.
    """
    path = _file(folder)
    layout = _layout(path)
    width = len(layout.columns)

    def rule(row: list[str]) -> str | None:
        if len(row) != width and "" in row:
            return f"two separators in a row, or one at an end; the rule is {RULE} {SINGLE}"
        if len(row) != width:
            return f"{len(row)} columns where the first line has {width}; the rule is {RULE}"
        if not (row[0] and row[1]):
            return f"an id is empty ({row!r}); the rule is {RULE}"
        problem = next(filter(None, map(fields.time_rule, row[2:])), None)
        return problem and f"{problem}; the rule is {RULE}"

    interactions, warnings = fields.interactions(path, layout, rule)
    _check_first(interactions, path)
    table = ninerec.files_of(folder).items
    if table.exists():
        items, more = ninerec.read_items(table, language)
    else:
        items, more = raw.items_of(interactions), []
    return raw.Raw(
        interactions=interactions,
        items=items,
        timed=width == len(COLUMNS),
        source=path,
        columns=",".join(layout.columns),
        warnings=warnings + more,
        has_texts=table.exists(),
    )


def _file(folder: Path) -> Path:
    """Find the file of the interactions: D.txt, or the only .txt of the folder."""
    path = folder / f"{folder.absolute().name}.txt"
    listed = sorted(folder.glob("*.txt"))
    if not path.exists() and len(listed) == 1:
        path = listed[0]
    elif not path.exists() and listed:
        there = ", ".join(one.name for one in listed)
        raise Stop(f"{folder}: which file is it, {there}? Call it {path.name}, as its folder")
    lines.check_file(path)
    return path


def _layout(path: Path) -> fields.Layout:
    """See from the first line that is not blank what stands between fields, and how many."""
    for line, (text, *_), _ in lines.survey(path, lambda _: None, "\n", quoted=False):
        separator = "\t" if "\t" in text else " "
        row = text.split(separator)
        if "" in row or not len(COLUMNS) - 1 <= len(row) <= len(COLUMNS):
            mend = f" {SINGLE}" if "" in row else ""
            raise Stop(
                f"{path}, line {line}: {text!r} is not a valid interaction; the rule is {RULE}"
                f"{mend}"
            )
        return fields.Layout(COLUMNS[: len(row)], separator, first=1)
    raise Stop(f"{path}: not one line of data in it; the rule is {RULE}")


def _check_first(interactions: pl.DataFrame, path: Path) -> None:
    """See that the first line is no header: words, where all other ids are numbers."""
    columns = [interactions[name] for name in ("user", "item")]
    if all(map(_is_word_before_numbers, columns)):
        raise Stop(
            f"{path}, line {interactions['line'][0]}: {[column[0] for column in columns]} is a "
            f"header, all other ids being numbers; the rule is {RULE}; remove the line"
        )


def _is_word_before_numbers(column: pl.Series) -> bool:
    first, known = column[0], ids.names(column)
    others = known.filter(known != first)
    is_word = not any(map(str.isdigit, first))
    return is_word and len(others) > 0 and others.str.contains("^[0-9]+$").all()

"""One's own files: interactions and items as CSV or Parquet, with column names from params.yaml."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Self

import polars as pl
from polars import selectors
from polars.exceptions import PolarsError
from pydantic import field_validator, model_validator

from pipeline.data import ids, lines, raw
from pipeline.data.files import Stop
from pipeline.data.lines import ROW
from pipeline.params import Section

# column -> what is wrong with a value, or None
Rules = dict[str, Callable[[str], str | None]]


class Table(Section):
    """The section `prepare.table`: which file has what, under which name.

    Format `recbole` has files and types of its own, and reads the names of columns alone.
    """

    interactions: str  # file name, .csv (with a header) or .parquet
    items: str  # file name, .csv (with a header) or .parquet
    user: str  # columns of the interactions
    item: str
    timestamp: str  # integers or dates; "": the file's order is the time order
    id: str  # columns of the items
    text: list[str]  # joined by ". ", those that are empty left out; []: items have no texts
    cover: str  # the column with the cover's file name; "": <id>.jpg, .jpeg, .png or .webp

    @field_validator("interactions", "items")
    @classmethod
    def _is_in_the_folder(cls, name: str) -> str:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(
                f"{name!r} lies outside the domain's folder, where no change of it is noticed; the "
                "rule is a file's name in the folder (it may be a link)"
            )
        return name

    @model_validator(mode="after")
    def _is_a_column_each(self) -> Self:
        columns = {"user": self.user, "item": self.item, "timestamp": self.timestamp}
        for one, other in itertools.combinations(columns, 2):
            if columns[one] and columns[one] == columns[other]:
                raise ValueError(
                    f"{one} and {other} both name {columns[one]!r}; the rule is a column each"
                )
        return self


def read(folder: Path, columns: Table) -> raw.Raw:
    """Read interactions and items from a folder.

    Raises:
        Stop: a file or column is missing, or a row breaks the rules.
    """
    source, item_source = folder / columns.interactions, folder / columns.items
    items, warnings = raw.unique(_items(item_source, columns), item_source)

    names = [n for n in (columns.user, columns.item, columns.timestamp) if n]
    scan = _scan(source, names)
    time = pl.lit(0)
    if columns.timestamp:
        kind = scan.collect_schema()[columns.timestamp]
        if not (kind.is_numeric() or kind in (pl.String, pl.Date, pl.Datetime)):
            raise Stop(
                f"{source}: the column {columns.timestamp!r} is of type {kind}; the rule is whole "
                "numbers, such as Unix seconds, or dates"
            )
        time = _integer(columns.timestamp, kind)
    rules: Rules = {columns.user: _no_id, columns.item: _no_id}
    if columns.timestamp:
        rules[columns.timestamp] = _no_integer
    interactions = _collect(
        scan.select(
            user=pl.col(columns.user).cast(pl.String),
            item=pl.col(columns.item).cast(pl.String),
            timestamp=time.cast(pl.Int64),
            line=ROW,
        ),
        source,
        rules,
    )
    bad = pl.any_horizontal(pl.all().is_null(), *(pl.col(name) == "" for name in ("user", "item")))
    first = interactions.select(pl.col("line").filter(bad).min()).item()
    if first is not None:
        _blame(source, rules, scan, first)
    if interactions.is_empty():
        raise Stop(f"{source}: not one interaction in it")
    encoded = (ids.encode(interactions[name]) for name in ("user", "item"))
    return raw.Raw(
        interactions=interactions.with_columns(encoded),
        items=items,
        timed=bool(columns.timestamp),
        source=source,
        columns=",".join(names),
        warnings=warnings,
        has_texts=bool(columns.text),
    )


def _items(path: Path, columns: Table) -> pl.DataFrame:
    scan = _scan(path, [n for n in (columns.id, *columns.text, columns.cover) if n])
    cover = pl.lit(None, pl.String)
    if columns.cover:  # "": the column names none for this item, so none is looked for
        cover = pl.col(columns.cover).cast(pl.String).fill_null("")
    rules: Rules = {columns.id: _no_id}
    items = _collect(
        scan.select(
            line=ROW,
            id=pl.col(columns.id).cast(pl.String),
            text=raw.join_texts(columns.text),
            cover=cover,
        ),
        path,
        rules,
    )
    bad = items.filter(pl.col("id").is_null() | (pl.col("id") == ""))
    if len(bad):
        _blame(path, rules, scan, bad["line"][0])
    if items.is_empty():
        raise Stop(f"{path}: not one item in it")
    return items.drop("line")


def _no_id(value: str) -> str | None:
    return None if value else "is empty; every row needs this id"


def _no_integer(value: str) -> str | None:
    if lines.is_integer(value):
        return None
    return (
        f"is {value!r}; the rule is an integer of 64 bits, such as Unix seconds, or in Parquet a "
        "column of dates"
    )


def _integer(column: str, kind: pl.DataType) -> pl.Expr:
    """Read a column as integers; null where a value is none."""
    value = pl.col(column).cast(pl.Int64, strict=False)
    has_fractions = kind.is_float() or kind.is_decimal()
    return pl.when(value == pl.col(column)).then(value) if has_fractions else value


def _scan(path: Path, columns: list[str]) -> pl.LazyFrame:
    """Open a file lazily; ROW numbers its rows from 1, a CSV file's header being the first."""
    lines.check_file(path)
    try:
        match path.suffix:
            case ".csv":
                scan = pl.scan_csv(
                    path, glob=False, infer_schema=False, row_index_name=ROW, row_index_offset=2
                )
            case ".parquet":
                scan = pl.scan_parquet(path, glob=False, row_index_name=ROW, row_index_offset=1)
            case other:
                raise Stop(f"{path}: the name ends in {other!r}; the rule is .csv or .parquet")
        kinds = scan.collect_schema()
    except PolarsError as error:
        raise Stop(_unreadable(path, {}, error)) from error
    there = [c for c in kinds if c != ROW]
    if lacking := [c for c in columns if c not in there]:
        if path.suffix == ".csv":
            _blame_csv(path, {})
        raise Stop(
            f"{path}: no column {', '.join(map(repr, lacking))}; its columns are "
            f"{', '.join(map(repr, there))}. Name them in params.yaml, prepare.table"
            ' (timestamp: "", text: [] or cover: "" if there is none)'
        )
    for name in columns:
        if kinds[name].is_nested():
            raise Stop(
                f"{path}: the column {name!r} is of type {kinds[name]}; the rule is text or "
                "numbers, so join its values to one text, or leave it out of prepare.table"
            )
    scan = scan.with_columns(selectors.float().fill_nan(None))  # NaN is no value
    if path.suffix == ".csv":  # nothing, or separators alone, is no row
        scan = scan.filter(~pl.all_horizontal(pl.all().exclude(ROW).is_null()))
    return scan


def _collect(frame: pl.LazyFrame, path: Path, rules: Rules) -> pl.DataFrame:
    try:
        return frame.collect(engine="streaming")
    except PolarsError as error:
        raise Stop(_unreadable(path, rules, error)) from error


def _unreadable(path: Path, rules: Rules, error: PolarsError) -> str:
    """Find the line of a CSV file that can't be read; else say what the library says."""
    if path.suffix == ".csv":
        _blame_csv(path, rules)
    return f"{path}: can't be read as {path.suffix[1:]}: {str(error).splitlines()[0]}"


def _blame(path: Path, rules: Rules, scan: pl.LazyFrame, line: int) -> None:
    """Stop at the row that breaks a rule, naming its value."""
    if path.suffix == ".csv":
        _blame_csv(path, rules)
    row = scan.filter(pl.col(ROW) == line).select(*rules).collect().row(0, named=True)
    for column, rule in rules.items():
        value = "" if row[column] is None else str(row[column])
        if problem := rule(value):
            raise Stop(f"{path}, row {line}: {column!r} {problem}")
    raise Stop(f"{path}, row {line}: {row} can't be used")


def _blame_csv(path: Path, rules: Rules) -> None:
    header: list[str] = []

    def rule(row: list[str]) -> str | None:
        if not header:
            header.extend(row)
            return None
        if len(row) != len(header):
            return f"{len(row)} columns where the header has {len(header)}"
        found = dict(zip(header, row, strict=True))
        broken = ((c, r(found[c])) for c, r in rules.items())
        return next((f"{c!r} {problem}" for c, problem in broken if problem), None)

    lines.blame(path, rule)

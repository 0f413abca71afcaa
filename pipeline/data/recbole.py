"""RecBole's atomic files: D.inter, and D.item where it is there, with typed fields in line 1."""

import itertools
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.data import fields, lines, raw
from pipeline.data.files import Stop
from pipeline.data.table import Table

TYPES = ("token", "token_seq", "float", "float_seq")
HEADER = f"name:type for each field, with a tab between; a type is one of {', '.join(TYPES)}"
SEPARATOR = "\t"


class Header(NamedTuple):
    """Line 1 of an atomic file."""

    path: Path
    types: dict[str, str]  # by field, in the file's order

    def layout(self, names: dict[str, str]) -> fields.Layout:
        """Lay out the file's columns: those of `names` by what they are here, others by number."""
        columns = [names.get(name, f"#{place}") for place, name in enumerate(self.types)]
        return fields.Layout(columns, SEPARATOR, first=2)

    def fields(self, row: list[str]) -> dict[str, str]:
        """Name the fields of a row; what it lacks at its end is empty."""
        return dict(itertools.zip_longest(self.types, row[: len(self.types)], fillvalue=""))

    def too_many(self, row: list[str]) -> str:
        """Say that a row has more fields than the header."""
        return f"{len(row)} columns where line 1 has {len(self.types)}, with a tab between"

    def check(self, name: str, role: str, types: tuple[str, ...] = TYPES) -> None:
        """See that a field is there and of a type that will do.

        Raises:
            Stop: it is not; the message names the fields there are and the key of params.yaml.
        """
        if name not in self.types:
            there = ", ".join(map(repr, self.types))
            empty = {"timestamp": '""', "text": "[]", "cover": '""'}.get(role)
            without = f" ({empty} if there is none)" if empty else ""
            raise Stop(
                f"{self.path}, line 1: no field {name!r}; its fields are {there}. Name it in "
                f"params.yaml, prepare.table.{role}{without}"
            )
        if self.types[name] not in types:
            raise Stop(
                f"{self.path}, line 1: the field {name!r} is of type {self.types[name]!r}; the "
                f"rule for prepare.table.{role} is {' or '.join(types)}"
            )


def read(folder: Path, columns: Table) -> raw.Raw:
    """Read a folder D of atomic files: D.inter, and D.item where it is there.

    Args:
        folder: D, the last part of its name being the files'.
        columns: the fields' names: user, item and perhaps timestamp of D.inter; id, text and
            perhaps cover of D.item.

    Raises:
        Stop: a file is missing, or a field, or a line breaks the rules.
    """
    name = folder.absolute().name
    path, item_path = folder / f"{name}.inter", folder / f"{name}.item"
    header = read_header(path)
    names = _names(header, columns)

    def rule(row: list[str]) -> str | None:
        found = header.fields(row)
        if len(row) > len(found):
            return header.too_many(row)
        if empty := [name for name in (columns.user, columns.item) if not found[name]]:
            return f"{empty[0]!r} is empty; the rule is {len(found)} fields with a tab between"
        return fields.time_rule(found[columns.timestamp]) if columns.timestamp else None

    interactions, warnings = fields.interactions(path, header.layout(names), rule)
    if item_path.exists():
        items, more = _items(item_path, columns)
    else:
        items, more = raw.items_of(interactions), []
    return raw.Raw(
        interactions=interactions,
        items=items,
        timed=bool(columns.timestamp),
        source=path,
        columns=",".join(names),
        warnings=warnings + more,
        has_texts=item_path.exists() and bool(columns.text),
    )


def read_header(path: Path) -> Header:
    """Read line 1 of an atomic file.

    Raises:
        Stop: the file is missing or empty, or its first line is no header.
    """
    lines.check_file(path)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        listed = file.readline().rstrip("\r\n").split(SEPARATOR)
    types: dict[str, str] = {}
    for field in listed:
        name, _, kind = field.rpartition(":")
        if not name or kind not in TYPES:
            raise Stop(
                f"{path}, line 1: {field!r} is not a valid field of a header; the rule is {HEADER}"
            )
        if name in types:
            raise Stop(f"{path}, line 1: the field {name!r} is listed twice; rename one")
        types[name] = kind
    return Header(path, types)


def _names(header: Header, columns: Table) -> dict[str, str]:
    """Say what the fields of D.inter are that are read: user, item and perhaps timestamp."""
    named = {"user": columns.user, "item": columns.item}
    if columns.timestamp:
        named["timestamp"] = columns.timestamp
    for role, name in named.items():
        header.check(name, role, ("float", "token") if role == "timestamp" else ("token",))
    return {name: role for role, name in named.items()}


def _items(path: Path, columns: Table) -> tuple[pl.DataFrame, list[str]]:
    """Read D.item: `raw.Raw`'s items, and warnings."""
    header = read_header(path)
    header.check(columns.id, "id", ("token",))
    for text in columns.text:
        header.check(text, "text")
    if columns.cover:
        header.check(columns.cover, "cover", ("token", "token_seq"))
    names = {name: name for name in header.types}

    def rule(row: list[str]) -> str | None:
        if len(row) > len(header.types):
            return header.too_many(row)
        return None if header.fields(row)[columns.id] else f"{columns.id!r} is empty; it is the id"

    cover = pl.col(columns.cover).fill_null("") if columns.cover else pl.lit(None, pl.String)
    chosen = {"id": pl.col(columns.id), "text": raw.join_texts(columns.text), "cover": cover}
    is_bad = pl.col("id").is_null() | (pl.col("id") == "")
    items = fields.collect(path, header.layout(names), chosen, is_bad, rule)
    return raw.unique(items.drop("line"), path)

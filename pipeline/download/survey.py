"""What NineRec's files of a data set hold, counted however broken they are."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.data import events, ids, lines, ninerec
from pipeline.data.files import Stop


class Survey(NamedTuple):
    """What is in the files of a data set."""

    users: int
    items: list[str]  # the ids of the item table, in its order
    interactions: int
    used: int  # items that occur in interactions
    columns: str  # the order found, "item,user"; "user,items" of a behaviour file; "" if unknown
    unknown: int  # interactions with items that the item table lacks
    broken: int  # lines that break their file's rule; they count for nothing
    faults: list[str]  # what is wrong with each file: the first such line, or that it is missing
    warnings: list[str]
    seconds: float  # that reading took


def survey(folder: Path) -> Survey:
    """Count users, items and interactions: as the pipeline reads them, if it can read them all.

    Where it can't, the files are read again line by line, and what can be read is counted.
    """
    began = time.monotonic()
    try:
        raw = ninerec.read(folder, "zh")
    except (Stop, OSError) as stop:
        return _by_line(ninerec.files_of(folder), str(stop), began)
    numbers = events.numbers(raw.interactions, raw.items["id"])
    return Survey(
        users=len(ids.names(raw.interactions["user"])),
        items=raw.items["id"].to_list(),
        interactions=len(raw.interactions),
        used=len(ids.names(raw.interactions["item"])),
        columns=raw.columns.removesuffix(",timestamp"),
        unknown=int((numbers == 0).sum()),
        broken=0,
        faults=[],
        warnings=[*raw.warnings, *_textless(raw.items)],
        seconds=time.monotonic() - began,
    )


def _textless(items: pl.DataFrame) -> list[str]:
    """Say how many items have no text in the language that presets read."""
    n = items["text"].null_count()
    if not n:
        return []
    return [
        f"{n:,} of {len(items):,} items ({n / len(items):.2%}) have no text in Chinese; `prepare` "
        "stops where they are more than prepare.max_missing"
    ]


class _Tally:
    """Counts broken lines, and remembers the first of each file."""

    def __init__(self) -> None:
        self.broken, self.faults = 0, list[str]()

    def rows(
        self,
        path: Path,
        rule: Callable[[list[str]], str | None],
        delimiter: str = ",",
        quoted: bool = True,
        spans: bool = False,
    ) -> Iterator[list[str]]:
        """Give the rows that keep the rule."""
        found = 0
        try:
            lines.check_file(path)
            for line, row, problem in lines.survey(path, rule, delimiter, quoted, spans):
                if problem is None:
                    yield row
                    continue
                found += 1
                if found == 1:
                    self.faults.append(f"{path}, line {line}: {problem}")
        except (Stop, OSError) as stop:
            self.faults.append(str(stop))
        self.broken += found


def _by_line(files: ninerec.Files, stop: str, began: float) -> Survey:
    """Count what can be read, line by line; `stop` is why the pipeline can't read it all."""
    tally = _Tally()
    items = dict.fromkeys(row[0] for row in tally.rows(files.items, ninerec.item_rule, spans=True))
    width = _width(files.pairs)
    if files.behaviour.exists() and width != ninerec.TIMED:
        n_users, used = _of_behaviour(tally, files.behaviour)
        columns = "user,items"
    else:
        first, second = _of_pairs(tally, files.pairs, width or ninerec.TIMED)
        order = _order(first, second, [*items], files.pairs) if items else ["item", "user"]
        users, used = (second, first) if order[0] == "item" else (first, second)
        n_users = len(users)
        columns = ",".join(order) if items and first else ""
    return Survey(
        users=n_users,
        items=[*items],
        interactions=used.total(),
        used=len(used),
        columns=columns,
        unknown=sum(n for item, n in used.items() if item not in items),
        broken=tally.broken,
        faults=tally.faults or [stop],
        warnings=[],
        seconds=time.monotonic() - began,
    )


def _width(pairs: Path) -> int | None:
    """Find how many columns the first line of pairs has that may be one; None if none may."""
    widths = (ninerec.TIMED - 1, ninerec.TIMED)
    try:
        rows = lines.survey(pairs, lambda _: None)
        return next((len(row) for _, row, _ in rows if len(row) in widths), None)
    except OSError:
        return None  # said when its rows are counted


def _of_pairs(tally: _Tally, path: Path, width: int) -> tuple[Counter[str], Counter[str]]:
    """Count each id of the first column, and of the second."""
    first, second = Counter[str](), Counter[str]()
    for row in tally.rows(path, ninerec.pair_rule(width)):
        first[row[0]] += 1
        second[row[1]] += 1
    return first, second


def _of_behaviour(tally: _Tally, path: Path) -> tuple[int, Counter[str]]:
    """Count the users, and each item of their last lines."""
    users = {row[0]: row[1] for row in tally.rows(path, ninerec.behaviour_rule, "\t", False)}
    used = Counter(item for listed in users.values() for item in listed.split(" ") if item)
    return len(users), used


def _order(first: Counter[str], second: Counter[str], items: list[str], path: Path) -> list[str]:
    if not first:
        return ["item", "user"]
    one, other = (pl.Series([*counted], dtype=pl.String) for counted in (first, second))
    return ninerec.column_order(one, other, pl.DataFrame({"id": items}), path)[0]

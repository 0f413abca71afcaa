"""NineRec's files: D_item.csv, and D_pair.csv or D_behaviour.tsv."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from polars.exceptions import PolarsError

from pipeline.data import fields, ids, lines, raw
from pipeline.data.files import Stop

TIMED = 3  # columns of a pair file with timestamps
LANGUAGES = {"zh": 1, "en": 2}  # the column of D_item.csv
PAIR = "item,user or user,item, then perhaps an integer timestamp, without a header"
BEHAVIOUR = "user<TAB>items separated by one space"


class Files(NamedTuple):
    """The files of a folder D of NineRec."""

    items: Path
    pairs: Path
    behaviour: Path


def read(folder: Path, language: str) -> raw.Raw:
    """Read a folder D of NineRec: D_item.csv and D_pair.csv, or D_behaviour.tsv.

    The behaviour file is read where there is no pair file, or one without timestamps.

    Raises:
        Stop: a file is missing, empty, or has a line that breaks its format's rules.
    """
    if language not in LANGUAGES:
        raise Stop(f"language {language!r} is not one of {', '.join(LANGUAGES)}")
    paths = files_of(folder)
    items, warnings = read_items(paths.items, language)
    if paths.behaviour.exists() and not (paths.pairs.exists() and _width(paths.pairs) == TIMED):
        return _read_behaviour(paths.behaviour, items, warnings)
    return _read_pair(paths.pairs, _width(paths.pairs), items, warnings)


def files_of(folder: Path) -> Files:
    """Name the files of a folder D, whether they are there or not."""
    name = folder.absolute().name  # a link's own, not that of what it leads to
    ends = ("item.csv", "pair.csv", "behaviour.tsv")
    return Files(*(folder / f"{name}_{end}" for end in ends))


def item_rule(row: list[str]) -> str | None:
    """Say how a row of D_item.csv breaks its rule."""
    width = 1 + len(LANGUAGES)
    if len(row) != width:
        return (
            f"{len(row)} columns; the rule is {width}: item id, text in Chinese, text in English "
            "(quote a text that holds commas)"
        )
    return None if row[0] else "the item id is empty; every item needs one"


def pair_rule(width: int) -> Callable[[list[str]], str | None]:
    """Give the rule of a D_pair.csv whose first line has so many columns."""

    def rule(row: list[str]) -> str | None:
        if len(row) != width:
            return f"{len(row)} columns where line 1 has {width}; the rule is {PAIR}"
        if not (row[0] and row[1]):
            return f"an id is empty ({','.join(row)!r}); the rule is {PAIR}"
        if not all(lines.is_integer(t) for t in row[2:]):
            return f"the timestamp {row[2]!r} is not an integer of 64 bits; the rule is {PAIR}"
        return None

    return rule


def behaviour_rule(row: list[str]) -> str | None:
    """Say how a row of D_behaviour.tsv breaks its rule."""
    if len(row) != len(("user", "items")):
        return f"{len(row)} columns; the rule is 2: {BEHAVIOUR}"
    if not (row[0] and row[1].strip()):
        return f"the user or the items are empty ({row[0]!r}, {row[1]!r}): {BEHAVIOUR}"
    return None


def read_items(path: Path, language: str) -> tuple[pl.DataFrame, list[str]]:
    """Read D_item.csv: `raw.Raw`'s items, and warnings.

    Raises:
        Stop: the file is missing, empty, or has a line that breaks the rule.
    """
    lines.check_file(path)
    kept = []
    for line, row in lines.rows(path):
        if problem := item_rule(row):
            raise Stop(f"{path}, line {line}: {problem}")
        kept.append((row[0], row[LANGUAGES[language]].strip()))
    schema = {"id": pl.String, "text": pl.String}
    items = pl.DataFrame(kept, schema, orient="row").with_columns(cover=pl.lit(None, pl.String))
    return raw.unique(items, path)


def _width(path: Path) -> int:
    lines.check_file(path)
    width = len(next(lines.rows(path), (0, []))[1])
    if width not in (TIMED - 1, TIMED):
        raise Stop(f"{path}, line 1: {width} columns; the rule is 2 or 3: {PAIR}")
    return width


def _read_pair(path: Path, width: int, items: pl.DataFrame, warnings: list[str]) -> raw.Raw:
    names = ["first", "second", "timestamp"][:width]
    scan = pl.scan_csv(
        path,
        glob=False,
        has_header=False,
        schema=dict.fromkeys(names, pl.String),
        row_index_name="line",
        row_index_offset=1,
    ).filter(~pl.all_horizontal(pl.col(names).is_null()))  # blank lines
    time = pl.col("timestamp").cast(pl.Int64, strict=False) if width == TIMED else pl.lit(0)
    scan = scan.with_columns(timestamp=time.cast(pl.Int64))

    rule = pair_rule(width)
    try:
        frame = scan.collect(engine="streaming")
    except PolarsError as error:
        lines.blame(path, rule)
        raise Stop(f"{path}: can't be read as CSV ({error})") from error
    is_bad = pl.any_horizontal(pl.all().is_null(), *(pl.col(name) == "" for name in names[:2]))
    bad = frame.select(pl.col("line").filter(is_bad).min()).item()
    if bad is not None or frame.is_empty():
        lines.blame(path, rule)
        raise Stop(f"{path}, row {bad or 1}: a value is missing; the rule is {PAIR}")

    frame = frame.with_columns(ids.encode(frame[name]) for name in names[:2])
    first, second = (ids.names(frame[name]) for name in names[:2])
    order, warning = column_order(first, second, items, path)
    if width != TIMED:
        warning.append(f"{path.name}: no timestamps; the file's order is taken as that of time")
    return raw.Raw(
        interactions=frame.rename(dict(zip(names[:2], order, strict=True))),
        items=items,
        timed=width == TIMED,
        source=path,
        columns=",".join([*order, "timestamp"][:width]),
        warnings=warnings + warning,
    )


def column_order(
    first: pl.Series, second: pl.Series, items: pl.DataFrame, path: Path
) -> tuple[list[str], list[str]]:
    """Decide which column holds items: the one whose ids are all in the item table.

    Where those of both are, or of neither, it is the one whose set of ids is more like the item
    table's: if both are plain numbers, each user's id may well be some item's id too.

    Args:
        first: the distinct ids of the first column.
        second: those of the second.
        items: the item table.
        path: the file, for warnings.

    Returns:
        What the columns are, ["item", "user"] or the other way round, and warnings.
    """
    alike: list[float] = []
    known: list[bool] = []
    for found in (first, second):
        both = int(found.is_in(items["id"].implode()).sum())
        alike.append(both / (len(found) + len(items) - both))
        known.append(both == len(found))
    is_liker = alike[0] >= alike[1]
    is_first = is_liker if known[0] == known[1] else known[0]
    order = ["item", "user"] if is_first else ["user", "item"]
    if all(known):
        why = "every id of either column is an item's id"
    elif is_first != is_liker:
        why = "every id of one column alone is an item's id, though there are few of them"
    else:
        return order, []
    return order, [
        f"{path.name}: {why}; taken as {','.join(order)}; the ids are {alike[0]:.0%} and "
        f"{alike[1]:.0%} like the item table's; if that is wrong, give the user ids a prefix"
    ]


def _read_behaviour(path: Path, items: pl.DataFrame, warnings: list[str]) -> raw.Raw:
    lines.check_file(path)
    chosen = {"user": pl.col("user"), "item": pl.col("item")}
    is_bad = pl.col("user").is_null() | (pl.col("item").fill_null("").str.strip_chars() == "")
    layout = fields.Layout([*chosen], "\t", first=1)
    frame = fields.collect(path, layout, chosen, is_bad, behaviour_rule)
    users = frame.unique("user", keep="last", maintain_order=True)
    if len(users) < len(frame):
        warnings = [
            *warnings,
            f"{path.name}: {len(frame) - len(users)} users' earlier lines were dropped, "
            "the last line of a user counts",
        ]
    interactions = (
        users.with_columns(pl.col("item").str.split(" "))
        .explode("item")
        .filter(pl.col("item") != "")
        .select("user", "item", "line", timestamp=pl.lit(0, pl.Int64))
    )
    encoded = (ids.encode(interactions[name]) for name in ("user", "item"))
    return raw.Raw(
        interactions=interactions.with_columns(encoded),
        items=items,
        timed=False,
        source=path,
        columns="user,items",
        warnings=warnings,
    )

"""Lines of fields between separators, without quotes: text columns, and interactions of them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from polars.exceptions import PolarsError

from pipeline.data import ids, lines
from pipeline.data.files import Stop
from pipeline.data.lines import ROW

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
LARGEST = 9.2e18  # of a timestamp: 64 bits
FRACTIONS = 1_000_000  # a timestamp with a fraction is kept in millionths
TIME = "a number of at most 64 bits"


class Layout(NamedTuple):
    """How a file's lines are divided."""

    columns: Sequence[str]  # names of all columns, in the file's order
    separator: str
    first: int  # the line that the data begin at, from 1


def collect(
    path: Path,
    layout: Layout,
    chosen: dict[str, pl.Expr],
    is_bad: pl.Expr,
    rule: Callable[[list[str]], str | None],
) -> pl.DataFrame:
    """Read a file's lines, blank ones left out: `line` UInt32 from 1, and what is chosen.

    What a line lacks at its end is null there, as what is empty.

    Args:
        path: the file.
        layout: its columns, all String.
        chosen: what to make of them.
        is_bad: whether a row of what is chosen can't be used.
        rule: says how a row breaks it, or None where all is well; to find the line to blame.

    Raises:
        Stop: a row breaks the rule, or there is none.
    """
    scan = pl.scan_csv(
        path,
        glob=False,
        has_header=False,
        skip_lines=layout.first - 1,
        separator=layout.separator,
        quote_char=None,
        schema=dict.fromkeys(layout.columns, pl.String),
        row_index_name=ROW,
        row_index_offset=layout.first,
        missing_columns="insert",  # as null; what the first line lacks, others may have
    ).filter(~pl.all_horizontal(pl.col(layout.columns).is_null()))
    try:
        frame = scan.select(line=ROW, **chosen).collect(engine="streaming")
    except PolarsError as error:
        lines.blame(path, rule, layout.separator, quoted=False, first=layout.first)
        raise Stop(f"{path}: can't be read ({error})") from error
    bad = frame.select(pl.col("line").filter(is_bad).min()).item()
    if bad is not None:
        lines.blame(path, rule, layout.separator, quoted=False, first=layout.first)
        raise Stop(f"{path}, line {bad}: a value is missing, or no {TIME}")
    if frame.is_empty():
        raise Stop(f"{path}: not one line of data in it; download or write it again")
    return frame


def interactions(
    path: Path, layout: Layout, rule: Callable[[list[str]], str | None]
) -> tuple[pl.DataFrame, list[str]]:
    """Read `raw.Raw`'s interactions from columns "user", "item" and perhaps "timestamp".

    Timestamps may be written as whole numbers or with point and exponent. Where any has a fraction,
    all are kept in millionths, and a warning says so.

    Raises:
        Stop: a row breaks the rule, has an empty id, or a timestamp that is no number.
    """
    chosen = {"user": pl.col("user"), "item": pl.col("item")}
    is_bad = pl.any_horizontal(
        *(pl.col(name).is_null() | (pl.col(name) == "") for name in ("user", "item"))
    )
    is_timed = "timestamp" in layout.columns
    if is_timed:
        chosen["whole"] = pl.col("timestamp").cast(pl.Int64, strict=False)
        chosen["real"] = pl.col("timestamp").cast(pl.Float64, strict=False)
        is_number = pl.col("real").abs() < LARGEST  # null where it is none, false for NaN
        is_bad |= pl.col("whole").is_null() & ~is_number.fill_null(False)
    frame = collect(path, layout, chosen, is_bad, rule)
    times, warnings = pl.repeat(0, len(frame), dtype=pl.Int64, eager=True), list[str]()
    if is_timed:
        times, warnings = _times(frame["whole"], frame["real"], path)
    encoded = (ids.encode(frame[name]) for name in ("user", "item"))
    return frame.select("line", *encoded, timestamp=times), warnings


def time_rule(text: str) -> str | None:
    """Say what is wrong with a timestamp."""
    if lines.is_integer(text) or (NUMBER.fullmatch(text) and abs(float(text)) < LARGEST):
        return None
    return f"the timestamp {text!r} is not {TIME}"


def _times(whole: pl.Series, real: pl.Series, path: Path) -> tuple[pl.Series, list[str]]:
    """Make Int64 of timestamps, and warn if they are kept in millionths."""
    if not whole.null_count():
        return whole, []
    if (real == real.floor()).all():
        return whole.fill_null(real.cast(pl.Int64, strict=False)), []
    if real.abs().max() >= LARGEST / FRACTIONS:  # type: ignore[operator]  # of floats a float
        raise Stop(
            f"{path}: some timestamps have fractions, and others are above {LARGEST / FRACTIONS:g};"
            " the rule is whole numbers, or numbers below that; write them in one unit"
        )
    millionths = (real * FRACTIONS).round().cast(pl.Int64)
    return millionths, [f"{path.name}: timestamps have fractions, and were taken in millionths"]

"""Raw tables to a prepared domain: numbered, in order, without the rows that don't fit."""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.data import missing, sequences, split, table, tables
from pipeline.data.files import Stop
from pipeline.data.raw import Raw
from pipeline.params import Section

SHOWN = 5  # ids named in a message


class Prepare(Section):
    """The section `prepare`: what is done with rows that don't fit."""

    max_unknown: float = Field(ge=0, le=1)  # the largest share of interactions with unknown items
    max_missing: float = Field(ge=0, le=1)  # the largest share of items without text
    duplicates: Literal["keep", "drop"]  # same user, item and timestamp (if there are any) again
    table: table.Table  # read by format `table` alone


class Counts(NamedTuple):
    """What happened to the interactions on the way."""

    read: int  # interactions in the file
    unknown: int  # of an item that the item table lacks; dropped
    duplicates: int  # found
    dropped: int  # of them, left out
    short_users: int  # users with fewer than protocol.min_items; dropped
    short_interactions: int  # theirs
    times: tuple[int, int] | None  # first and last timestamp of the interactions kept


def prepare(
    domain: str,
    raw: Raw,
    settings: Prepare,
    protocol: split.Protocol,
) -> tuple[tables.Prepared, Counts]:
    """Number items and users, order histories by time, then file order, and filter.

    Args:
        domain: its name, for messages.
        raw: what the reader gave.
        settings: the section `prepare`.
        protocol: min_items, and what the candidates are.

    Raises:
        Stop: unknown items or missing texts above what the settings allow, no user left, or
            fewer candidate items than the protocol's cutoff.
    """
    items = raw.items
    lacking = items.filter(pl.col("text").is_null())["id"].to_list()
    missing.check(
        f"{domain}: no text", lacking, len(items), settings.max_missing,
        "Check the language or text columns, or raise prepare.max_missing in params.yaml.",
    )  # fmt: skip
    numbers = items.select(item="id", number=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
    known = raw.interactions.join(numbers.lazy(), on="item", how="left")
    unknown = _unknown(known, raw, settings.max_unknown)

    events, users = _events(known)
    again, events = _duplicates(events, settings.duplicates)
    per_user = np.bincount(events["user"], minlength=len(users))
    stays = per_user >= protocol.min_items
    if not stays.any():
        raise Stop(
            f"{domain}: no user is left: the longest of {len(users):,} histories has "
            f"{per_user.max(initial=0)} items, fewer than protocol.min_items = "
            f"{protocol.min_items}; bring more interactions or lower it in params.yaml"
        )
    events = events.filter(stays[events["user"].to_numpy()])
    offsets = np.concatenate([[0], np.cumsum(per_user[stays])])
    histories = sequences.Lists(events["number"].to_numpy(), offsets)
    _check_candidates(domain, histories, len(items), protocol)

    ends = offsets[1:]
    kept = users.filter(stays).select("id", valid=histories.items[ends - 2])
    prepared = tables.Prepared(
        items=items.match_to_schema(tables.ITEMS),
        users=kept.with_columns(test=histories.items[ends - 1]),
        sequences=histories,
    )
    return prepared, Counts(
        read=raw.size,
        unknown=unknown,
        duplicates=again,
        dropped=again if settings.duplicates == "drop" else 0,
        short_users=int((~stays).sum()),
        short_interactions=int(per_user[~stays].sum()),
        times=events.select(a=pl.col("timestamp").min(), b=pl.col("timestamp").max()).row(0)
        if raw.timed
        else None,
    )


def _unknown(known: pl.LazyFrame, raw: Raw, allowed: float) -> int:
    """Count interactions with unknown items; stop if they are too many."""
    lost = (
        known.filter(pl.col("number").is_null())
        .group_by("item")
        .agg(n=pl.len(), line=pl.col("line").min())
        .sort("line", "item")
        .collect(engine="streaming")
    )
    count = int(lost["n"].sum())
    if count > allowed * raw.size:
        shown = ", ".join(f"{item!r} (line {line})" for item, _, line in lost.head(SHOWN).rows())
        raise Stop(
            f"{raw.source}: {count:,} of {raw.size:,} interactions ({count / raw.size:.2%}) are "
            f"with {len(lost):,} items that the item table lacks, more than prepare.max_unknown = "
            f"{allowed:.2%} allows: {shown}; columns were read as {raw.columns}. Complete the "
            "item table, or raise prepare.max_unknown in params.yaml to drop them"
        )
    return count


def _events(known: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the users by sorted id: (interactions in integers, users)."""
    known = known.filter(pl.col("number").is_not_null())
    users = known.group_by(id="user").agg().sort("id").collect(engine="streaming")
    numbers = users.select(pl.col("id").alias("user"), u=pl.int_range(pl.len(), dtype=pl.Int32))
    events = known.join(numbers.lazy(), on="user", how="inner").select(
        "number", "timestamp", "line", "position", user="u"
    )
    return events.collect(engine="streaming"), users


def _duplicates(events: pl.DataFrame, what: str) -> tuple[int, pl.DataFrame]:
    """Count repeats of user, item and timestamp; give the events (if so set, without) in order."""
    same = ["user", "timestamp", "number"]
    order = ["line", "position"]
    events = events.sort(*same, *order)
    again = pl.all_horizontal(pl.col(c) == pl.col(c).shift() for c in same).fill_null(value=False)
    count = int(events.select(again.sum()).item())
    if what == "drop":
        events = events.filter(~again)
    return count, events.sort("user", "timestamp", *order)


def _check_candidates(
    domain: str, histories: sequences.Lists, n_items: int, protocol: split.Protocol
) -> None:
    candidates = int(split.split(histories, n_items, protocol).candidates.sum())
    if candidates < protocol.cutoff:
        raise Stop(
            f"{domain}: {candidates} candidate items, fewer than the {protocol.cutoff} that "
            f"{protocol.select} looks at (protocol.select in params.yaml); bring more items"
        )

"""Raw tables to a prepared domain: numbered, in order, without the rows that don't fit."""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.data import events, ids, missing, sequences, split, table, tables
from pipeline.data.files import Stop
from pipeline.data.raw import Raw
from pipeline.params import Section

SHOWN = 5  # ids named in a message


class Prepare(Section):
    """The section `prepare`: what is done with rows that don't fit."""

    max_unknown: float = Field(ge=0, le=1)  # the largest share of interactions with unknown items
    max_missing: float = Field(ge=0, le=1)  # the largest share of items without text
    max_users: int = Field(ge=0)  # a sample of so many of the users that stay; 0: all
    seed: int = Field(ge=0)  # of the sample
    duplicates: Literal["keep", "drop"]  # same user, item and timestamp (if there are any) again
    table: table.Table  # read by the formats `table` and `recbole`


class Counts(NamedTuple):
    """What happened to the interactions on the way."""

    read: int  # interactions in the file
    unknown: int  # of an item that the item table lacks; dropped
    duplicates: int  # found
    dropped: int  # of them, left out
    short_users: int  # users with fewer than protocol.min_items; dropped
    short_interactions: int  # theirs
    times: tuple[int, int] | None  # first and last timestamp of the interactions kept
    drawn_from: int | None = None  # users with enough, of whom max_users are drawn; None: no sample


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
    if raw.has_texts:
        lacking = items.filter(pl.col("text").is_null())["id"].to_list()
        missing.check(
            f"{domain}: no text", lacking, len(items), settings.max_missing,
            "Check the language or text columns, or raise prepare.max_missing in params.yaml.",
        )  # fmt: skip
    numbers = events.numbers(raw.interactions, items["id"])
    unknown = _unknown(raw, numbers, items["id"], settings.max_unknown)

    ordered = events.put_in_order(raw.interactions, numbers)
    again = events.repeats(ordered)
    histories = ordered.histories
    if settings.duplicates == "drop":
        histories = events.without(histories, again)
    per_user = sequences.lengths(histories)
    staying = _staying(domain, per_user, protocol.min_items)
    kept = _sample(staying, settings.max_users, settings.seed)
    histories = sequences.take(histories, kept)
    _check_candidates(domain, histories, len(items), protocol)

    ends = histories.offsets[1:]
    users = {
        "id": ordered.users.gather(kept),
        "valid": histories.items[ends - 2],
        "test": histories.items[ends - 1],
    }
    prepared = tables.Prepared(
        items=items.match_to_schema(tables.ITEMS),
        users=pl.DataFrame(users, tables.USERS),
        sequences=histories,
    )
    return prepared, Counts(
        read=len(raw.interactions),
        unknown=unknown,
        duplicates=len(again),
        dropped=len(again) if settings.duplicates == "drop" else 0,
        short_users=len(per_user) - len(staying),
        short_interactions=int(per_user.sum() - per_user[staying].sum()),
        times=(int(ordered.first[kept].min()), int(ordered.last[kept].max()))
        if raw.timed
        else None,
        drawn_from=len(staying) if settings.max_users else None,
    )


def _staying(domain: str, per_user: np.ndarray, least: int) -> np.ndarray:
    """List the users with enough items; stop if there is none."""
    staying = np.flatnonzero(per_user >= least)
    if not len(staying):
        raise Stop(
            f"{domain}: no user is left: the longest of {len(per_user):,} histories has "
            f"{per_user.max(initial=0)} items, fewer than protocol.min_items = "
            f"{least}; bring more interactions or lower it in params.yaml"
        )
    return staying


def _sample(users: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw so many users, all of them if most is 0 or above their number; they stay ascending.

    With one seed, a sample is contained in every larger one.
    """
    if most == 0:
        return users
    return np.sort(np.random.default_rng(seed).permutation(users)[:most])


def _unknown(raw: Raw, numbers: np.ndarray, known: pl.Series, allowed: float) -> int:
    """Count interactions with unknown items; stop if they are too many."""
    lost = (
        raw.interactions.filter(numbers == 0)
        .group_by(pl.col("item").cast(pl.String))
        .agg(n=pl.len(), row=pl.col("line").min())
        .sort("row", "item")
    )
    count, size = int(lost["n"].sum()), len(raw.interactions)
    if count > allowed * size:
        shown = ", ".join(f"{item!r} (row {row})" for item, _, row in lost.head(SHOWN).rows())
        raise Stop(
            f"{raw.source}: {count:,} of {size:,} interactions ({count / size:.2%}) are "
            f"with {len(lost):,} items that the item table lacks, more than prepare.max_unknown = "
            f"{allowed:.2%} allows: {shown}; columns were read as {raw.columns}."
            f"{ids.spelling(lost['item'], known, 'of the item table')} Complete the "
            "item table, or raise prepare.max_unknown in params.yaml to drop them"
        )
    return count


def _check_candidates(
    domain: str, histories: sequences.Lists, n_items: int, protocol: split.Protocol
) -> None:
    candidates = int(split.candidates(histories, n_items, protocol).sum())
    if candidates < split.CUTOFF:
        raise Stop(
            f"{domain}: {candidates} candidate items, fewer than the {split.CUTOFF} that "
            f"{protocol.select} looks at (protocol.select in params.yaml); bring more items"
        )

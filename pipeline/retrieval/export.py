"""Lists of best items as files for other tools: Parquet, and TREC's run and qrels."""

import re
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl

from pipeline.data import files, split, tables
from pipeline.data.split import HeldOut
from pipeline.retrieval import scoring, vectors

# lists.parquet: ids as in the raw data, rank from 1, score the inner product
LISTS = pl.Schema({"user": pl.String, "item": pl.String, "rank": pl.Int32, "score": pl.Float32})
CHUNK_LINES = 1 << 19  # written at once: users x K
# In an id of a TREC file blanks part its fields, and % begins what is escaped. Python parts at the
# separators \x1c to \x1f too, which are no blanks to polars.
UNSAFE = r"[\s\x1c-\x1f%]"


class Best(NamedTuple):
    """The best items of some users, best first; equal scores by lower item."""

    users: np.ndarray  # [B] int64, their rows
    items: np.ndarray  # [B, K] int32, PAD at the end where a user has fewer than K left
    scores: np.ndarray  # [B, K] float32, the inner products; of PAD none is meant


def chunks(queries: np.ndarray, items: np.ndarray, lists: np.ndarray) -> Iterator[Best]:
    """Score what was retrieved, some users at a time.

    Args:
        queries: [U, D] float32, one query vector a user.
        items: [N + 1, D] float32, row i is item i.
        lists: [U, K] int32, as `search.retrieve` gives them.
    """
    step = max(1, CHUNK_LINES // max(1, lists.shape[1]))
    for start in range(0, len(lists), step):
        own, listed = queries[start : start + step], lists[start : start + step]
        scores = scoring.exactly(own, items, listed)
        users = np.arange(start, start + len(listed))
        yield Best(users, listed, scores.astype(np.float32))


def check(run: Path, prepared: Path, domain: tables.Prepared, protocol: split.Protocol) -> None:
    """See that a run's items and users are those of a prepared domain, in the same order.

    Raises:
        Stop: they are others, the run does not say whose users it has, or it read histories of
            another length than the protocol's.
    """
    length = files.read_json(run / "model.json")["length"]
    if length != protocol.history:
        window = protocol.window - protocol.history + length
        raise files.Stop(
            f"{run} was trained on histories of {length} items, and protocol.window "
            f"{protocol.window} in params.yaml leaves {protocol.history}: its users' vectors are "
            f"not those of this split; set protocol.window to {window}, or run `dvc repro`"
        )
    known = pl.read_parquet(run / "ids.parquet")["id"]
    if not known.equals(domain.items["id"]):
        raise files.Stop(
            f"{run}: its items ({len(known):,}) are not those of {prepared} "
            f"({len(domain.items):,}); name the prepared domain that it was trained on, or run "
            "`dvc repro`"
        )
    users = files.read_json(run / "run.json").get("users_sha256")
    if users is None:
        raise files.Stop(
            f"{run / 'run.json'} has no users_sha256, by which a run says whose lists it can give: "
            "an older version wrote it; run `dvc repro`"
        )
    if users != vectors.digest(domain.users["id"]):
        raise files.Stop(
            f"{run}: its users are not the {len(domain.users):,} of {prepared}, or stand in "
            "another order; name the prepared domain that it was trained on, or run `dvc repro`"
        )


def write(
    folder: Path, chunks: Iterable[Best], held_out: HeldOut, domain: tables.Prepared, tag: str
) -> None:
    """Write lists.parquet, run.trec and qrels.trec.

    Users and items are called as in the raw data. In the TREC files blanks and % of an id are
    escaped as in an address (a blank is %20), as blanks part their fields.

    Args:
        folder: where to; it is there.
        chunks: all users' best items, user by user.
        held_out: the users' held-out items, which are what is relevant.
        domain: whose users and items they are.
        tag: the last field of a line of run.trec.
    """
    users, items = domain.users["id"], domain.items["id"]
    trec_users, trec_items = escape(users), escape(items)
    parts: list[Path] = []
    with (folder / "run.trec").open("wb") as run:
        for best in chunks:
            row, place = best.items.nonzero()
            user, item = best.users[row], best.items[row, place] - 1
            ids = {"user": users.gather(user), "item": items.gather(item)}
            about = {"rank": (place + 1).astype(np.int32), "score": best.scores[row, place]}
            listed = pl.DataFrame({**ids, **about}, LISTS)
            parts.append(folder / f"lists.{len(parts)}.parquet")
            listed.write_parquet(parts[-1])
            named = {"user": trec_users.gather(user), "item": trec_items.gather(item)}
            listed = listed.with_columns(**named, Q0=pl.lit("Q0"), tag=pl.lit(tag))
            _write_lines(listed.select("user", "Q0", "item", "rank", "score", "tag"), run)
    pl.scan_parquet(parts, glob=False).sink_parquet(folder / "lists.parquet")
    for part in parts:
        part.unlink()
    relevant = {"user": trec_users, "0": 0, "item": trec_items.gather(held_out.items - 1), "1": 1}
    with (folder / "qrels.trec").open("wb") as qrels:
        _write_lines(pl.DataFrame(relevant), qrels)


def escape(ids: pl.Series) -> pl.Series:
    """Escape blanks and % in ids, as in an address, so that none parts the fields of a line."""
    if not ids.str.contains(UNSAFE).any():
        return ids
    return pl.Series(
        ids.name, [re.sub(UNSAFE, lambda found: urllib.parse.quote(found[0]), one) for one in ids]
    )


def _write_lines(fields: pl.DataFrame, file: BinaryIO) -> None:
    """Write a line a row, with one blank between fields and no quotes."""
    fields.write_csv(file, include_header=False, separator=" ", quote_style="never")

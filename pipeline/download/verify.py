"""A download of NineRec beside what is published of it, data set by data set."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.download.cover_check import Checked
from pipeline.download.release import Published
from pipeline.download.survey import Survey

SHOWN = 5  # ids, files or lines named in a message
HEADER = (
    "data set", "users", "items", "interactions", "columns", "broken lines", "unknown items",
    "covers missing", "covers broken", "on disk", "needs", "takes", "verdict",
)  # fmt: skip
ABSENT, OK, MISMATCH = "absent", "ok", "MISMATCH"
WIDTH = 768  # of an embedding, in the estimate
READ_AGAIN = 2  # `prepare` takes so many times as long as reading alone
ESTIMATE = (
    "needs: estimated disk of the pipeline's artifacts: prepared domain (4 bytes an interaction, "
    "20 a user, the texts), covers packed at {size} px (3 bytes a pixel), embeddings of text and "
    f"cover (2 x {WIDTH} x 4 bytes an item); runs, checkpoints and kept prefixes come on top.\n"
    f"takes: estimated time of `prepare` ({READ_AGAIN} x reading the files here) and `covers` "
    "(at the rate measured here), one after the other; embedding and training depend on encoder "
    "and device, and say their own rate and ETA. Neither counts covers that are not looked for."
)


class Verdict(NamedTuple):
    """What was found of one data set."""

    cells: list[str]  # as HEADER
    mismatches: list[str]  # what does not fit, and what to do about it
    notes: list[str]  # what is worth knowing

    @property
    def verdict(self) -> str:
        """ABSENT, OK or MISMATCH."""
        return self.cells[-1]


def absent(name: str, folder: Path, is_asked_for: bool) -> Verdict:
    """Report a data set that is not there, a mismatch only if it was asked for."""
    cells = [name, *["-"] * (len(HEADER) - 2), MISMATCH if is_asked_for else ABSENT]
    missing = f"{name}: {folder} is not there; download and unpack it, or leave it out of --dataset"
    return Verdict(cells, [missing] if is_asked_for else [], [])


def judge(
    name: str, published: Published, found: Survey, covers: Checked, order: str | None
) -> list[str]:
    """List what does not fit, each with what to do about it.

    Args:
        name: the data set's.
        published: its statistics.
        found: what its files hold.
        covers: what became of its covers.
        order: the columns that D_pair.csv should have; None where either order will do.
    """
    problems = [*found.faults, *_of_counts(published, found), *_of_columns(found, order)]
    if found.broken > 1:
        problems.append(
            f"{found.broken:,} lines break the rules of their files, the first of each file is "
            "named above; the pipeline would stop there: mend or unpack them again"
        )
    return [f"{name}: {problem}" for problem in [*problems, *_of_covers(covers)]]


def _of_counts(published: Published, found: Survey) -> list[str]:
    counted = {
        "users": (found.users, published.users),
        "items": (len(found.items), published.items),
        "interactions": (found.interactions, published.interactions),
    }
    problems = [
        f"{n:,} {what}, {abs(n - right):,} {'more' if n > right else 'fewer'} than the {right:,} "
        "published; unpack the archive again, and compare its size with that of the download"
        for what, (n, right) in counted.items()
        if n != right
    ]
    if len(found.items) != published.items == found.used:
        problems.append(
            f"the {found.used:,} items that occur in interactions are as many as published: the "
            "item table alone differs"
        )
    return problems


def _of_columns(found: Survey, order: str | None) -> list[str]:
    problems = []
    if order and found.columns not in (order, "user,items", ""):
        problems.append(
            f"the columns are {found.columns} where {order} was expected; the pipeline finds the "
            f"order by itself: if that is how your files are, say --columns {found.columns}, or "
            "--columns any"
        )
    if found.unknown:
        problems.append(
            f"{found.unknown:,} interactions are with items that the item table lacks; unpack both "
            "files again, or let prepare.max_unknown in params.yaml drop them"
        )
    return problems


def _of_covers(covers: Checked) -> list[str]:
    if covers.fault:
        return [covers.fault]
    problems = []
    if covers.missing:
        problems.append(
            f"{len(covers.missing):,} items have no cover: {_some(covers.missing)}; unpack the "
            "covers again (up to covers.max_missing in params.yaml such items take a learned "
            "vector)"
        )
    if covers.broken:
        listed = [f"{file} ({why})" for file, why in covers.broken.items()]
        problems.append(
            f"{len(covers.broken):,} covers can't be read: {_some(listed)}; unpack these again"
        )
    return problems


def report(
    name: str,
    published: Published,
    found: Survey,
    covers: Checked,
    bytes_on_disk: int,
    size: int,
    order: str | None,
) -> Verdict:
    """Lay out what was found of one data set.

    Args:
        name: the data set's.
        published: its statistics.
        found: what its files hold.
        covers: what became of its covers.
        bytes_on_disk: what its files take.
        size: pixels of a side of a packed cover, for the estimate.
        order: the columns that D_pair.csv should have; None where either order will do.
    """
    mismatches = judge(name, published, found, covers, order)
    is_wrong = bool(order) and found.columns not in (order, "user,items")
    cells = [
        name,
        _beside(found.users, published.users),
        _beside(len(found.items), published.items),
        _beside(found.interactions, published.interactions),
        (found.columns or "?") + (" (!)" if is_wrong else ""),
        f"{found.broken:,}",
        f"{found.unknown:,}",
        f"{len(covers.missing):,}" if covers.wanted else "-",
        f"{len(covers.broken):,} of {covers.decoded:,}" if covers.wanted else "-",
        _size(bytes_on_disk),
        _size(needed_bytes(found, size if covers.wanted else None)),
        _time(needed_seconds(found, covers)),
        MISMATCH if mismatches else OK,
    ]
    notes = [*found.warnings, *([] if covers.wanted else ["covers were not looked for"])]
    return Verdict(cells, mismatches, [f"{name}: {note}" for note in notes])


def needed_bytes(found: Survey, size: int | None) -> int:
    """Estimate the disk that the pipeline's artifacts of a data set take, as ESTIMATE says.

    Args:
        found: what its files hold.
        size: pixels of a side of a packed cover; None without covers.
    """
    items, embedding = len(found.items), 4 * WIDTH
    prepared = 4 * found.interactions + 20 * found.users + 100 * items
    of_covers = 0 if size is None else (3 * size**2 + embedding) * items
    return prepared + embedding * items + of_covers


def needed_seconds(found: Survey, covers: Checked) -> float | None:
    """Estimate how long `prepare` and `covers` take; None where no cover was decoded."""
    if not covers.wanted:
        return READ_AGAIN * found.seconds
    if not covers.rate:
        return None
    there = len(found.items) - len(covers.missing)
    return READ_AGAIN * found.seconds + there / covers.rate


def bytes_of(folder: Path) -> int:
    """Add up the sizes of all files of a folder, in no folder that is linked; 0 if it is not there.

    A link to a file counts as what it leads to, one that leads nowhere as nothing.
    """
    found = 0
    for above, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                found += (Path(above) / file).stat().st_size
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """Lay verdicts out as a table of text, columns flush right but for the first and last."""
    rows = [HEADER, *(verdict.cells for verdict in verdicts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, len(HEADER) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _beside(found: int, published: int) -> str:
    return f"{found:,}" if found == published else f"{found:,} (not {published:,})"


def _some(listed: Sequence[str]) -> str:
    more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"  # noqa: PLR2004

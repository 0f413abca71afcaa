"""Search against bare FAISS: what exact ranks cost beside the search they stand on.

python -m benchmarks.search                                       minutes
python -m benchmarks.search --shape 2000x8000x64 --repeats 2      a look at it
"""

import os
from typing import Annotated, Any, NamedTuple

import faiss
import numpy as np
import typer

from benchmarks import measure
from pipeline.data import sequences
from pipeline.data.split import HeldOut
from pipeline.retrieval import index, metrics, search

NAME = "search"
SHAPES = ["11000x8000x64", "11000x8000x128", "11000x8000x512", "4000x144000x256", "2000x400000x64"]
# Over users, then over items; at 4,000 x 64 numbers FAISS multiplies matrices, as it does beyond.
GROWTH = ["4000x8000x64", "16000x8000x64", "64000x8000x64"]
GROWTH += ["4000x50000x64", "4000x144000x64", "4000x400000x64"]
MASKED = (2, 21)  # items that a user's mask holds: a window of 23
SIGNAL = 2.0  # of the held-out item in the query; 0 would rank it at random
COPIES = 0.1  # of the items have the vector of another, as items with the same text
HEAD = ["users x items x width", "threads", "FAISS, s", "ours, s", "ours / FAISS"]
GROWN = ["users x items x width", "threads", "FAISS, ns", "ours, ns"]
ABOUT = f"""
FAISS: `IndexFlatIP.search` of all queries in one call, as deep as the longest mask asks for, the
index built before. Ours: `search.rank` with K = {metrics.CUTOFF}, all of it: finite vectors,
candidates, the search, masks, the held-out item's place, ties in float64. Equal: queries, items,
float32, threads. Not equal: users with short masks are searched less deep. Vectors are normal, the
query leans towards the held-out item, and {COPIES:.0%} of the items have the vector of another.
"""


class Shape(NamedTuple):
    """How much is searched."""

    users: int
    items: int
    width: int

    def text(self) -> str:
        """Write it as users x items x width."""
        return f"{self.users:,} x {self.items:,} x {self.width}"


class Domain(NamedTuple):
    """What a search is given."""

    queries: np.ndarray  # [U, D] float32
    items: np.ndarray  # [N + 1, D] float32
    held_out: HeldOut
    candidates: np.ndarray  # [N + 1] bool, all but PAD


def main(
    shape: Annotated[list[str] | None, typer.Option(help="UxNxD; default: five")] = None,
    growth: Annotated[bool, typer.Option(help="also growth over users and items")] = True,
    threads: Annotated[list[int] | None, typer.Option(help="default: one, and all cores")] = None,
    repeats: Annotated[int, typer.Option(help=measure.REPEATS)] = 0,
) -> None:
    """Time both on each shape, with one thread and with all."""
    counts = threads or sorted({1, len(os.sched_getaffinity(0))})
    rows = [compare(parse(one), n, repeats) for one in shape or SHAPES for n in counts]
    grown = [compare(parse(one), n, repeats) for one in GROWTH for n in counts] if growth else []
    measure.write_run(NAME, {"rows": rows, "growth": grown}, table(rows, grown))


def parse(text: str) -> Shape:
    """Read users x items x width.

    Raises:
        BadParameter: the text is no such thing.
    """
    numbers = text.split("x")
    if len(numbers) != len(Shape._fields) or not all(n.isdecimal() and int(n) for n in numbers):
        raise typer.BadParameter(f"--shape {text}: give users x items x width, as 2000x8000x64")
    return Shape(*map(int, numbers))


def compare(shape: Shape, threads: int, repeats: int) -> dict[str, Any]:
    """Time FAISS and ours in turn."""
    measure.say(f"{shape.text()}, {threads} threads")
    index.set_up("auto", threads)
    domain = draw(shape)
    deep = metrics.CUTOFF + int(sequences.lengths(domain.held_out.masked).max())
    bare = faiss.IndexFlatIP(shape.width)
    if faiss.get_num_gpus() > 0:  # as ours does
        bare = faiss.index_cpu_to_all_gpus(bare)
    bare.add(domain.items[1:])
    seconds = measure.side_by_side(
        {
            "FAISS": lambda: bare.search(domain.queries, deep),
            "ours": lambda: search.rank(*domain, metrics.CUTOFF),
        },
        repeats,
    )
    return {"shape": shape, "threads": threads, "seconds": seconds}


def draw(shape: Shape) -> Domain:
    """Draw vectors, masks and held-out items."""
    U, N, D = shape
    rng = np.random.default_rng(0)
    items = rng.standard_normal((N + 1, D), np.float32)
    copies = int(N * COPIES)
    items[N + 1 - copies :] = items[1 : copies + 1]
    held_out = rng.integers(1, N + 1, U)
    queries = rng.standard_normal((U, D), np.float32)
    queries += np.float32(SIGNAL / np.sqrt(D)) * items[held_out]
    masked = sequences.from_rows(
        [rng.integers(1, N + 1, n) for n in rng.integers(MASKED[0], MASKED[1] + 1, U)]
    )
    return Domain(
        queries,
        items,
        HeldOut(histories=masked, masked=masked, items=held_out.astype(np.int32)),
        candidates=np.arange(N + 1) > 0,
    )


def table(rows: list[dict[str, Any]], grown: list[dict[str, Any]]) -> str:
    """Lay out seconds and their ratio, and the growth in nanoseconds a user and item."""
    compared = [
        [
            row["shape"].text(),
            str(row["threads"]),
            measure.spread(row["seconds"]["FAISS"]).text(3),
            measure.spread(row["seconds"]["ours"]).text(3),
            measure.ratio(row["seconds"]["ours"], row["seconds"]["FAISS"]).text(),
        ]
        for row in rows
    ]
    text = f"{measure.table(HEAD, compared)}\n{ABOUT}"
    if not grown:
        return text
    per_pair = [
        [
            row["shape"].text(),
            str(row["threads"]),
            *(nanoseconds(row, side).text(3) for side in ("FAISS", "ours")),
        ]
        for row in grown
    ]
    return f"{text}\nTime a user and item, as both grow:\n\n{measure.table(GROWN, per_pair)}"


def nanoseconds(row: dict[str, Any], side: str) -> measure.Spread:
    """Divide the time by users and items."""
    pairs = row["shape"].users * row["shape"].items
    return measure.spread([1e9 * seconds / pairs for seconds in row["seconds"][side]])


if __name__ == "__main__":
    typer.run(main)

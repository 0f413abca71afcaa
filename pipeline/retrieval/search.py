"""Exact inner product search: where each held-out item stands, and what each user is shown."""

from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.progress import Progress
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut
from pipeline.retrieval import ranking, recommended, scoring, vectors
from pipeline.retrieval.index import index_of
from pipeline.retrieval.ranking import Ranks
from pipeline.retrieval.scoring import Chunk

# Scores closer than TOLERANCE * |query| * (largest |item|) are ties. float32 search gives identical
# vectors scores that differ by up to 2e-7 of that product (D = 64), 7e-7 where all entries are
# positive (D = 512), and other differences for other batch sizes; a tie must not depend on them.
TOLERANCE = 4e-6

CHUNK_USERS = 4096  # many: below 128,000 numbers of queries FAISS multiplies no matrices
CHUNK_SCORES = 1 << 22  # scores held at once: users x depth, or users x items where exhaustive


class Found(NamedTuple):
    """What a search finds for each user."""

    ranks: Ranks
    lists: np.ndarray  # [U, k] int32, the k best items, best first; PAD where there are fewer


class Asked(NamedTuple):
    """What is asked of a search, once `retrieve` has checked it."""

    queries: np.ndarray  # [U, D] float32
    items: np.ndarray  # [N + 1, D] float32
    held_out: HeldOut
    candidates: np.ndarray  # [N + 1] bool
    tolerances: np.ndarray  # [U] float64, scores so close are ties
    depth: int  # the largest K that is asked for
    k: int  # items to list; 0 for none


def rank(
    queries: np.ndarray, items: np.ndarray, held_out: HeldOut, candidates: np.ndarray, depth: int
) -> Ranks:
    """Rank each user's held-out item as `retrieve` does, without the lists."""
    return retrieve(queries, items, held_out, candidates, depth, 0).ranks


def retrieve(
    queries: np.ndarray,
    items: np.ndarray,
    held_out: HeldOut,
    candidates: np.ndarray,
    depth: int,
    k: int,
) -> Found:
    """Rank each user's held-out item among the candidates not masked for the user; list the best.

    FAISS finds the best `depth` plus as many as a chunk of users masks at most. Scores that differ
    by about the tolerance are computed again in float64. Where ties reach past what was found, or
    the mask is longer than a search may be, all candidates are scored in float64. So the ranks
    depend neither on the chunks nor on the order of the users, nor do the lists, in which equal
    scores stand in order of the items (see `recommended`).

    Args:
        queries: [U, D] float32, one query vector a user.
        items: [N + 1, D] float32, row i is item i.
        held_out: the item of each user and what is masked.
        candidates: [N + 1] bool, the items that may be retrieved; PAD is never one.
        depth: the largest K that is asked for; lower ranks are not told apart.
        k: how many items to list; 0 for none.

    Raises:
        ValueError: a vector holds NaN or infinity, or shapes do not fit.
    """
    vectors.check(queries, items, held_out, candidates)
    queries = np.ascontiguousarray(queries, np.float32)
    eligible = np.ascontiguousarray(_rows(items, np.flatnonzero(candidates)), np.float32)
    tolerances = TOLERANCE * vectors.norms("query", queries)
    tolerances *= vectors.norms("item", eligible).max()
    asked = Asked(queries, items, held_out, candidates, tolerances, depth, k)

    progress = Progress("search, users", len(queries))
    ((better, tied), lists), is_certain = _by_index(asked, eligible, progress)
    left = np.flatnonzero(~is_certain)
    (better[left], tied[left]), lists[left] = _by_scores(asked, left, progress)
    is_reachable = ranking.reachable(held_out, candidates)
    return Found(ranking.not_past(depth, is_reachable, better, tied), lists)


def allow(scores: np.ndarray, masked: Lists, candidates: np.ndarray) -> np.ndarray:
    """Make the scores of items that may not be retrieved -inf, in a copy: [B, N + 1] float64.

    Args:
        scores: [B, N + 1] float64, of every item for every user.
        masked: the B users' masks.
        candidates: [N + 1] bool, the items that may be retrieved.
    """
    allowed = np.where(candidates, scores, -np.inf)
    allowed[sequences.owners(masked), masked.items] = -np.inf
    return allowed


def _by_index(asked: Asked, eligible: np.ndarray, progress: Progress) -> tuple[Found, np.ndarray]:
    """Rank and list by what FAISS finds: the best, and as many as a chunk of users masks at most.

    Args:
        asked: all users and items.
        eligible: [n, D] float32, the vectors of the n candidates.
        progress: counts users for whom both are certain.

    Returns:
        Ranks and lists, and [U] bool, the users for whom both are certain.
    """
    queries, items, held_out, candidates, tolerances, depth, k = asked
    rows = np.flatnonzero(candidates)  # position in the index -> item
    index, masks = index_of(eligible), sequences.lengths(held_out.masked)
    better, tied = np.zeros((2, len(queries)), np.int32)
    lists, is_certain = np.zeros((len(queries), k), np.int32), np.zeros(len(queries), bool)
    wanted = max(depth, k + recommended.SPARE) if k else depth
    for users in _chunks(masks, wanted, len(rows)):
        deep = min(wanted + int(masks[users[-1]]), len(rows))
        if deep > index.limit:
            continue
        scores, places = index.search(queries[users], deep)
        # Where all found are better, `depth` of them at least are not masked: that is past.
        own = np.vecdot(queries[users], items[held_out.items[users]])
        near = np.flatnonzero(scores[:, -1] <= own + 2 * tolerances[users])
        better[users], is_certain[users] = depth, True
        kept = slice(None) if k else near
        chunk = _chunk(asked, users[kept], rows[places[kept]], scores[kept], deep == len(rows))
        if k:
            lists[users], is_certain[users] = recommended.of_search(chunk, k)
            chunk = chunk.take(near)
        unsettled = users[near]
        (better[unsettled], tied[unsettled]), is_ranked = ranking.of_search(
            chunk, held_out.items[unsettled], depth
        )
        is_certain[unsettled] &= is_ranked
        progress.advance(int(is_certain[users].sum()))
    return Found(Ranks(better, tied), lists), is_certain


def _chunk(
    asked: Asked, users: np.ndarray, found: np.ndarray, scores: np.ndarray, is_complete: bool
) -> Chunk:
    """Put what was found for some users beside their queries and masks.

    Args:
        asked: all users and items.
        users: [B] int64, whom it was found for.
        found: [B, d] int64, items.
        scores: [B, d] float32, theirs, best first.
        is_complete: whether all candidates were found.
    """
    masked = sequences.take(asked.held_out.masked, users)
    return Chunk(
        queries=asked.queries[users],
        items=asked.items,
        found=found,
        scores=scores,
        is_masked=_is_masked(found, masked, len(asked.items)),
        tolerance=asked.tolerances[users],
        is_complete=is_complete,
    )


def _by_scores(asked: Asked, users: np.ndarray, progress: Progress) -> Found:
    """Rank and list for some users, [n] int64, by the scores of all items in float64."""
    better, tied = np.zeros((2, len(users)), np.int32)
    lists = np.zeros((len(users), asked.k), np.int32)
    step = max(1, CHUNK_SCORES // len(asked.items))
    for start in range(0, len(users), step):
        here = slice(start, start + step)
        some = users[here]
        queries, tolerance = asked.queries[some], asked.tolerances[some]
        masked = sequences.take(asked.held_out.masked, some)
        scores = allow(scoring.of_all(queries, asked.items), masked, asked.candidates)
        better[here], tied[here] = ranking.of_scores(
            scores, asked.held_out.items[some], asked.depth, tolerance
        )
        if asked.k:
            exact = partial(_exact_row, queries, asked.items)
            slack = recommended.SLACK * tolerance
            lists[here] = recommended.of_scores(scores, asked.k, slack, exact)
        progress.advance(len(some))
    return Found(Ranks(better, tied), lists)


def _is_masked(found: np.ndarray, masked: Lists, width: int) -> np.ndarray:
    """Tell which of the items found for each user the user's mask holds: [B, d] bool.

    Args:
        found: [B, d] int64, items.
        masked: the B users' masks.
        width: N + 1.
    """
    is_masked = np.empty(found.shape, bool)
    step = max(1, CHUNK_SCORES // width)
    marks = np.zeros((min(step, len(found)), width), bool)
    for start in range(0, len(found), step):
        users = np.arange(start, min(start + step, len(found)))
        own = sequences.take(masked, users)
        places = (sequences.owners(own), own.items)
        marks[places] = True
        is_masked[users] = np.take_along_axis(marks[: len(users)], found[users], axis=1)
        marks[places] = False
    return is_masked


def _chunks(masks: np.ndarray, depth: int, n: int) -> list[np.ndarray]:
    """Divide the users evenly, shortest mask first, so that few search deeper than they must.

    Args:
        masks: [U] int64, the length of each user's mask.
        depth: what is searched for beyond the mask.
        n: how many items there are to be found.

    Returns:
        A chunk, [B] int64 users, at a time.
    """
    order = np.argsort(masks, kind="stable")
    chunks, start = [], 0
    while start < len(order):
        left = len(order) - start
        size = -(-left // -(-left // CHUNK_USERS))
        longest = int(masks[order[start + size - 1]])
        size = max(1, min(size, CHUNK_SCORES // min(depth + longest, n)))
        chunks.append(order[start : start + size])
        start += size
    return chunks


def _rows(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Take rows [n] int64, ascending and none twice, of [N + 1, D] float vectors.

    They are no copy where none is left out between.
    """
    first, end = int(rows[0]), int(rows[-1]) + 1
    return items[first:end] if end - first == len(rows) else items[rows]


def _exact_row(queries: np.ndarray, items: np.ndarray, row: int, found: np.ndarray) -> np.ndarray:
    """Score the items found for one user as `scoring.exactly` does: [n] float64.

    Args:
        queries: [B, D] float32.
        items: [N + 1, D] float32.
        row: the user's.
        found: [n] int64, items.
    """
    return np.asarray(scoring.exactly(queries[row : row + 1], items, found[None])[0])

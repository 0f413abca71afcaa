"""Exact inner product search: where each held-out item stands, and what each user is shown."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut
from pipeline.retrieval import recommended, vectors
from pipeline.retrieval.index import index_of

# Scores closer than TOLERANCE * |query| * (largest |item|) are ties. float32 search gives identical
# vectors scores that differ by up to 2e-7 of that product (D = 64), 7e-7 where all entries are
# positive (D = 512), and other differences for other batch sizes; a tie must not depend on them.
TOLERANCE = 4e-6

CHUNK_USERS = 4096  # many: below 128,000 numbers of queries FAISS multiplies no matrices
CHUNK_SCORES = 1 << 22  # scores held at once: users x depth, or users x items where exhaustive


class Ranks(NamedTuple):
    """Where each held-out item stands; not retrieved: 0 tied, and 0 or `depth` better.

    With 0 better it may not be retrieved at all (it is masked or no candidate), with `depth`
    better it stands further down than was looked.
    """

    better: np.ndarray  # [U] int32, candidates with a higher score, beyond the tolerance
    tied: np.ndarray  # [U] int32, candidates with the held-out item's score, itself included


class Found(NamedTuple):
    """What a search finds for each user."""

    ranks: Ranks
    lists: np.ndarray  # [U, k] int32, the k best items, best first; PAD where there are fewer


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
    rows = np.flatnonzero(candidates)  # position in the index -> item
    eligible = np.ascontiguousarray(_rows(items, rows), np.float32)
    tolerances = TOLERANCE * vectors.norms("query", queries)
    tolerances *= vectors.norms("item", eligible).max()
    index = index_of(eligible)

    masks = sequences.lengths(held_out.masked)
    better, tied = np.zeros((2, len(queries)), np.int32)
    lists = np.zeros((len(queries), k), np.int32)
    settled, listed = np.zeros(len(queries), bool), np.full(len(queries), k == 0)
    wanted = max(depth, k + recommended.SPARE) if k else depth
    for users in _chunks(masks, wanted, len(rows)):
        deep = min(wanted + int(masks[users[-1]]), len(rows))
        if deep > index.limit:
            continue
        chunk, complete = queries[users], deep == len(rows)
        scores, places = index.search(chunk, deep)
        found, masked = rows[places], sequences.take(held_out.masked, users)
        is_masked = _is_masked(found, masked, len(items)) if k else None
        known = (chunk, items, scores, found, masked, is_masked)
        better[users], tied[users], settled[users] = _stand(
            *known, held_out.items[users], tolerances[users], depth, complete
        )
        if is_masked is not None:
            lists[users], listed[users] = recommended.of_search(
                chunk, items, scores, found, is_masked, tolerances[users], k, complete
            )
    for users, scores in _exhaustive(~(settled & listed), queries, items, held_out, candidates):
        ranked, shown = ~settled[users], ~listed[users]
        some, own = users[ranked], scores[ranked]
        better[some], tied[some] = rank_scores(own, held_out.items[some], depth, tolerances[some])
        some, own = users[shown], scores[shown]
        exact = partial(_exact_row, queries[some], items)
        lists[some] = recommended.of_scores(own, k, recommended.SLACK * tolerances[some], exact)
    ranks = _not_past(depth, reachable(held_out, candidates), better, tied)
    return Found(ranks, lists)


def rank_scores(
    scores: np.ndarray, held_out: np.ndarray, depth: int, tolerance: np.ndarray | float = 0.0
) -> Ranks:
    """Rank each user's held-out item by the scores of all items, exhaustively.

    Args:
        scores: [B, N + 1] float, of every item for every user; -inf where it may not be retrieved.
        held_out: [B] int, the held-out items.
        depth: the largest K that is asked for; lower ranks are not told apart.
        tolerance: [B] or one number, scores so close are ties.
    """
    own = scores[np.arange(len(scores)), held_out]
    is_reachable = own > -np.inf
    own = np.where(is_reachable, own, np.inf)
    better = (scores > (own + tolerance)[:, None]).sum(axis=1)
    tied = (scores >= (own - tolerance)[:, None]).sum(axis=1) - better
    return _not_past(depth, is_reachable, better, tied)


def allow(scores: np.ndarray, masked: Lists, candidates: np.ndarray) -> np.ndarray:
    """Make the scores [B, N + 1] of items that may not be retrieved -inf, in a copy."""
    allowed = np.where(candidates, scores, -np.inf)
    allowed[sequences.owners(masked), masked.items] = -np.inf
    return allowed


def reachable(held_out: HeldOut, candidates: np.ndarray) -> np.ndarray:
    """Tell the users whose held-out item is a candidate and not in their own mask: [U] bool."""
    owners = sequences.owners(held_out.masked)
    is_own = held_out.masked.items == held_out.items[owners]
    is_masked = np.zeros(len(held_out.items), bool)
    is_masked[owners[is_own]] = True
    return np.asarray(candidates[held_out.items] & ~is_masked)


def _stand(
    queries: np.ndarray,  # [B, D] float32
    items: np.ndarray,  # [N + 1, D] float32
    scores: np.ndarray,  # [B, d] float32, best first
    found: np.ndarray,  # [B, d] int, the items with these scores
    masked: Lists,
    is_masked: np.ndarray | None,  # [B, d] bool, which of them are; None to look only where needed
    held_out: np.ndarray,
    tolerance: np.ndarray,  # [B]
    depth: int,
    complete: bool,  # whether all candidates were found
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count better and tied items among those found, and tell where the counts are certain."""
    own = np.vecdot(queries, items[held_out]).astype(np.float64)
    # All found are better, and `depth` of them at least are not masked.
    settled = scores[:, -1] > own + 2 * tolerance
    better, tied = np.full(len(own), depth), np.zeros(len(own), np.int64)
    near = np.flatnonzero(~settled)
    if is_masked is None:
        is_near_masked = _is_masked(found[near], sequences.take(masked, near), len(items))
    else:
        is_near_masked = is_masked[near]
    better[near], tied[near], settled[near] = _settle(
        queries[near],
        items,
        scores[near].astype(np.float64),
        found[near],
        own[near],
        tolerance[near],
        is_near_masked,
        held_out[near],
        depth,
        complete,
    )
    return better, tied, settled


def _settle(
    queries: np.ndarray,  # [B, D] float32
    items: np.ndarray,  # [N + 1, D] float32
    scores: np.ndarray,  # [B, d] float64, best first
    found: np.ndarray,  # [B, d] int
    own: np.ndarray,  # [B] float64, the held-out items' scores where the search did not find them
    tolerance: np.ndarray,  # [B]
    is_masked: np.ndarray,  # [B, d] bool
    held_out: np.ndarray,
    depth: int,
    complete: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do as `_stand` does where the held-out item's score is among those found, or near them."""
    is_own = found == held_out[:, None]
    own = np.where(is_own.any(axis=1), (scores * is_own).sum(axis=1), own)
    ahead = np.where(is_masked, -np.inf, scores - own[:, None])
    tolerance = tolerance[:, None]

    # The float32 error is below half the tolerance: only what lies between half and twice the
    # tolerance could fall on either side of it.
    distance = np.abs(ahead)
    is_unclear = ((distance > tolerance / 2) & (distance < 2 * tolerance)).any(axis=1)
    is_deep_enough = complete | (own - 2 * tolerance[:, 0] > scores[:, -1])
    is_past = (ahead > 2 * tolerance).sum(axis=1) >= depth
    unclear = np.flatnonzero(is_unclear & is_deep_enough & ~is_past)
    exact = recommended.exactly(queries[unclear], items, found[unclear])
    exact -= recommended.exactly(queries[unclear], items, held_out[unclear, None])
    ahead[unclear] = np.where(is_masked[unclear], -np.inf, exact)

    better = (ahead > tolerance).sum(axis=1)
    tied = (np.abs(ahead) <= tolerance).sum(axis=1)
    return better, tied, is_deep_enough | is_past


def _is_masked(found: np.ndarray, masked: Lists, width: int) -> np.ndarray:
    """Tell which of the items found for each user the user's mask holds: [B, d] bool."""
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


def _not_past(depth: int, is_reachable: np.ndarray, better: np.ndarray, tied: np.ndarray) -> Ranks:
    """Make all ranks from `depth` on one and the same, so that no search depth shows in them."""
    is_found = is_reachable & (better < depth)
    return Ranks(
        better=np.where(is_reachable, np.minimum(better, depth), 0).astype(np.int32),
        tied=np.where(is_found, tied, 0).astype(np.int32),
    )


def _chunks(masks: np.ndarray, depth: int, n: int) -> list[np.ndarray]:
    """Divide the users evenly, shortest mask first, so that few search deeper than they must."""
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
    """Take rows, ascending and none twice; without a copy where none is left out between."""
    first, end = int(rows[0]), int(rows[-1]) + 1
    return items[first:end] if end - first == len(rows) else items[rows]


def _exhaustive(
    marked: np.ndarray,
    queries: np.ndarray,
    items: np.ndarray,
    held_out: HeldOut,
    candidates: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the marked users some at a time, with their scores of all items, as `allow` does."""
    users = np.flatnonzero(marked)
    step = max(1, CHUNK_SCORES // len(items))
    for start in range(0, len(users), step):
        some = users[start : start + step]
        scores, masked = _all_scores(queries[some], items), sequences.take(held_out.masked, some)
        yield some, allow(scores, masked, candidates)


def _exact_row(queries: np.ndarray, items: np.ndarray, row: int, found: np.ndarray) -> np.ndarray:
    """Score the items found for one of the queries, [n], so that equal vectors score equally."""
    return np.asarray(recommended.exactly(queries[row : row + 1], items, found[None])[0])


def _all_scores(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Score all items in float64, [B, N + 1], without a float64 copy of all vectors."""
    scores = np.empty((len(queries), len(items)))
    wide = queries.astype(np.float64)
    step = max(1, recommended.CHUNK_NUMBERS // max(1, items.shape[1]))
    for start in range(0, len(items), step):
        block = slice(start, start + step)
        scores[:, block] = wide @ items[block].astype(np.float64).T
    return scores

"""Where each user's held-out item stands among all candidates, by exact inner product search."""

from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut
from pipeline.retrieval.index import index_of

# Scores closer than TOLERANCE * |query| * (largest |item|) are ties. float32 search gives identical
# vectors scores that differ by up to 2e-7 of that product (D = 64), 7e-7 where all entries are
# positive (D = 512), and other differences for other batch sizes; a tie must not depend on them.
TOLERANCE = 4e-6

CHUNK_USERS = 4096  # many: below 128,000 numbers of queries FAISS multiplies no matrices
CHUNK_SCORES = 1 << 22  # scores held at once: users x depth, or users x items where exhaustive
BLOCK_NUMBERS = 1 << 17  # numbers made float64 at once, so few that they stay in a core's cache


class Ranks(NamedTuple):
    """Where each held-out item stands; not retrieved: 0 tied, and 0 or `depth` better.

    With 0 better it may not be retrieved at all (it is masked or no candidate), with `depth`
    better it stands further down than was looked.
    """

    better: np.ndarray  # [U] int32, candidates with a higher score, beyond the tolerance
    tied: np.ndarray  # [U] int32, candidates with the held-out item's score, itself included


def rank(
    queries: np.ndarray, items: np.ndarray, held_out: HeldOut, candidates: np.ndarray, depth: int
) -> Ranks:
    """Rank each user's held-out item among the candidates that are not masked for the user.

    FAISS finds the best `depth` plus as many as a chunk of users masks at most. Scores that differ
    by about the tolerance are computed again in float64. Where ties reach past what was found, or
    the mask is longer than a search may be, all candidates are scored in float64. So the ranks
    depend neither on the chunks nor on the order of the users.

    Args:
        queries: [U, D] float32, one query vector a user.
        items: [N + 1, D] float32, row i is item i.
        held_out: the item of each user and what is masked.
        candidates: [N + 1] bool, the items that may be retrieved; PAD is never one.
        depth: the largest K that is asked for; lower ranks are not told apart.

    Raises:
        ValueError: a vector holds NaN or infinity, or shapes do not fit.
    """
    _check(queries, items, held_out, candidates)
    queries = np.ascontiguousarray(queries, np.float32)
    rows = np.flatnonzero(candidates)  # position in the index -> item
    vectors = np.ascontiguousarray(_rows(items, rows), np.float32)
    tolerances = TOLERANCE * _norms("query", queries) * _norms("item", vectors).max()
    index = index_of(vectors)

    masks = sequences.lengths(held_out.masked)
    better, tied = np.zeros((2, len(queries)), np.int32)
    settled = np.zeros(len(queries), bool)
    for users in _chunks(masks, depth, len(rows)):
        deep = min(depth + int(masks[users[-1]]), len(rows))
        if deep > index.limit:
            continue
        chunk = queries[users]
        scores, found = index.search(chunk, deep)
        own = np.vecdot(chunk, items[held_out.items[users]]).astype(np.float64)
        # All found are better, and `depth` of them at least are not masked.
        is_past = scores[:, -1] > own + 2 * tolerances[users]
        better[users], settled[users] = depth, is_past
        near = np.flatnonzero(~is_past)
        users = users[near]
        better[users], tied[users], settled[users] = _settle(
            chunk[near],
            items,
            scores[near].astype(np.float64),
            rows[found[near]],
            own[near],
            tolerances[users],
            sequences.take(held_out.masked, users),
            held_out.items[users],
            depth=depth,
            complete=deep == len(rows),
        )
    step = max(1, CHUNK_SCORES // len(candidates))
    doubtful = np.flatnonzero(~settled)
    for start in range(0, len(doubtful), step):
        users = doubtful[start : start + step]
        better[users], tied[users] = rank_scores(
            _all_scores(queries[users], items),
            sequences.take(held_out.masked, users),
            held_out.items[users],
            candidates,
            depth,
            tolerances[users],
        )
    return _not_past(depth, reachable(held_out, candidates), better, tied)


def rank_scores(
    scores: np.ndarray,
    masked: Lists,
    held_out: np.ndarray,
    candidates: np.ndarray,
    depth: int,
    tolerance: np.ndarray | float = 0.0,
) -> Ranks:
    """Rank each user's held-out item by the scores of all items, exhaustively.

    Args:
        scores: [B, N + 1] float, the score of every item for every user.
        masked: B rows, the items that may not be retrieved for each user.
        held_out: [B] int, the held-out items.
        candidates: [N + 1] bool, the items that may be retrieved.
        depth: the largest K that is asked for; lower ranks are not told apart.
        tolerance: [B] or one number, scores so close are ties.
    """
    allowed = np.where(candidates, scores, -np.inf)
    allowed[sequences.owners(masked), masked.items] = -np.inf
    own = allowed[np.arange(len(allowed)), held_out]
    is_reachable = own > -np.inf
    own = np.where(is_reachable, own, np.inf)
    better = (allowed > (own + tolerance)[:, None]).sum(axis=1)
    tied = (allowed >= (own - tolerance)[:, None]).sum(axis=1) - better
    return _not_past(depth, is_reachable, better, tied)


def reachable(held_out: HeldOut, candidates: np.ndarray) -> np.ndarray:
    """Tell the users whose held-out item is a candidate and not in their own mask: [U] bool."""
    owners = sequences.owners(held_out.masked)
    is_own = held_out.masked.items == held_out.items[owners]
    is_masked = np.zeros(len(held_out.items), bool)
    is_masked[owners[is_own]] = True
    return np.asarray(candidates[held_out.items] & ~is_masked)


def _settle(
    queries: np.ndarray,  # [B, D] float32
    items: np.ndarray,  # [N + 1, D] float32
    scores: np.ndarray,  # [B, d] float64, best first
    found: np.ndarray,  # [B, d] int, the items with these scores
    own: np.ndarray,  # [B] float64, the held-out items' scores where the search did not find them
    tolerance: np.ndarray,  # [B]
    masked: Lists,
    held_out: np.ndarray,
    depth: int,
    complete: bool,  # whether all candidates were found
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count better and tied items among those found, and tell where the counts are certain."""
    is_own = found == held_out[:, None]
    own = np.where(is_own.any(axis=1), (scores * is_own).sum(axis=1), own)
    is_masked = _is_masked(found, masked, len(items))
    ahead = np.where(is_masked, -np.inf, scores - own[:, None])
    tolerance = tolerance[:, None]

    # The float32 error is below half the tolerance: only what lies between half and twice the
    # tolerance could fall on either side of it.
    distance = np.abs(ahead)
    is_unclear = ((distance > tolerance / 2) & (distance < 2 * tolerance)).any(axis=1)
    is_deep_enough = complete | (own - 2 * tolerance[:, 0] > scores[:, -1])
    is_past = (ahead > 2 * tolerance).sum(axis=1) >= depth
    unclear = np.flatnonzero(is_unclear & is_deep_enough & ~is_past)
    step = max(1, CHUNK_SCORES // max(1, found.shape[1] * items.shape[1]))
    for start in range(0, len(unclear), step):
        users = unclear[start : start + step]
        exact = _differences(queries[users], items, found[users], held_out[users])
        ahead[users] = np.where(is_masked[users], -np.inf, exact)

    better = (ahead > tolerance).sum(axis=1)
    tied = (np.abs(ahead) <= tolerance).sum(axis=1)
    return better, tied, is_deep_enough | is_past


def _differences(
    queries: np.ndarray, items: np.ndarray, found: np.ndarray, held_out: np.ndarray
) -> np.ndarray:
    """Score the items found less the held-out one, exactly: [B, d] float64."""
    wide = queries.astype(np.float64)[:, None, :]
    scores = np.vecdot(wide, items[found].astype(np.float64))
    return np.asarray(scores - np.vecdot(wide, items[held_out[:, None]].astype(np.float64)))


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


def _norms(name: str, vectors: np.ndarray) -> np.ndarray:
    """Give the lengths of vectors [n, D]: [n] float64.

    Raises:
        ValueError: one holds NaN or infinity.
    """
    squared = np.vecdot(vectors, vectors).astype(np.float64)
    if not np.isfinite(squared).all():
        wrong = int((~np.isfinite(vectors).all(axis=1)).sum())
        if wrong:
            raise ValueError(
                f"{wrong:,} of {len(vectors):,} {name} vectors hold NaN or infinity, and all must "
                "be finite: the model has diverged; train it with a lower learning rate"
            )
    return np.asarray(np.sqrt(squared))


def _all_scores(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Score all items in float64, [B, N + 1], without a float64 copy of all vectors."""
    scores = np.empty((len(queries), len(items)))
    wide = queries.astype(np.float64)
    step = max(1, BLOCK_NUMBERS // max(1, items.shape[1]))
    for start in range(0, len(items), step):
        block = slice(start, start + step)
        scores[:, block] = wide @ items[block].astype(np.float64).T
    return scores


def _check(
    queries: np.ndarray, items: np.ndarray, held_out: HeldOut, candidates: np.ndarray
) -> None:
    if len(queries) != len(held_out.items) or len(items) != len(candidates):
        raise ValueError(
            f"{len(queries)} queries for {len(held_out.items)} users and {len(items)} item vectors "
            f"for a catalogue of {len(candidates)}: there must be one each; give the vectors that "
            "were made for this domain"
        )
    if candidates[sequences.PAD] or not candidates.any():
        raise ValueError(
            f"{int(candidates.sum())} candidates, PAD {'is' if candidates[0] else 'is not'} one of "
            "them: there must be at least one item and no PAD; take them from split.candidates"
        )

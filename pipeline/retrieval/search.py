"""Where each user's held-out item stands among all candidates, by exact inner product search."""

from typing import Any, NamedTuple

import faiss
import numpy as np

from pipeline.data import sequences
from pipeline.data.sequences import Lists
from pipeline.data.split import HeldOut

# Scores closer than TOLERANCE * |query| * (largest |item|) are ties. float32 search gives identical
# vectors scores that differ by up to 2e-7 of that product (D = 64), 7e-7 where all entries are
# positive (D = 512), and other differences for other batch sizes; a tie must not depend on them.
TOLERANCE = 4e-6

GPU_DEPTH = 2048  # as many neighbours as FAISS finds on a GPU
CHUNK_USERS = 1024
CHUNK_SCORES = 1 << 22  # scores held at once: users x depth, or users x items where exhaustive


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

    FAISS finds the best `depth` plus as many as a chunk of users masks at most. Where that cannot
    settle the rank, since ties reach past what was found, the mask is longer than a search may be
    or scores differ by about the tolerance, all candidates are scored in float64. So the ranks
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
    rows = np.flatnonzero(candidates)  # position in the index -> item
    vectors = np.ascontiguousarray(items[rows], np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    tolerances = TOLERANCE * np.linalg.norm(queries, axis=1).astype(np.float64)
    tolerances *= norms.max(initial=0)
    index = _index(vectors)

    masks = sequences.lengths(held_out.masked)
    better, tied = np.zeros((2, len(queries)), np.int32)
    settled = np.zeros(len(queries), bool)
    for users in _chunks(masks, depth, len(rows)):
        deep = min(depth + int(masks[users[-1]]), len(rows))
        if deep > GPU_DEPTH and faiss.get_num_gpus() > 0:
            continue
        chunk = np.ascontiguousarray(queries[users], np.float32)
        scores, found = index.search(chunk, deep)
        better[users], tied[users], settled[users] = _settle(
            scores.astype(np.float64),
            rows[found],
            _own_scores(chunk, items, held_out.items[users]),
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


def set_threads(threads: int) -> None:
    """Let FAISS use so many threads; 0 leaves its own choice (the cores, or OMP_NUM_THREADS)."""
    if threads > 0:
        faiss.omp_set_num_threads(threads)


def _settle(
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
    ahead = np.where(_is_masked(found, masked), -np.inf, scores - own[:, None])
    tolerance = tolerance[:, None]
    better = (ahead > tolerance).sum(axis=1)
    tied = (np.abs(ahead) <= tolerance).sum(axis=1)

    # The float32 error is below half the tolerance: only what lies between half and twice the
    # tolerance could fall on either side of it.
    distance = np.abs(ahead)
    is_clear = ~((distance > tolerance / 2) & (distance < 2 * tolerance)).any(axis=1)
    is_deep_enough = complete | (own - 2 * tolerance[:, 0] > scores[:, -1])
    is_past = (ahead > 2 * tolerance).sum(axis=1) >= depth
    return better, tied, (is_clear & is_deep_enough) | is_past


def _is_masked(found: np.ndarray, masked: Lists) -> np.ndarray:
    """Tell which of the items found for each user the user's mask holds: [B, d] bool."""
    width = max(int(found.max(initial=0)), int(masked.items.max(initial=0))) + 1
    keys = found + np.arange(len(found))[:, None] * width
    return np.isin(keys, masked.items + sequences.owners(masked) * width)


def _not_past(depth: int, is_reachable: np.ndarray, better: np.ndarray, tied: np.ndarray) -> Ranks:
    """Make all ranks from `depth` on one and the same, so that no search depth shows in them."""
    is_found = is_reachable & (better < depth)
    return Ranks(
        better=np.where(is_reachable, np.minimum(better, depth), 0).astype(np.int32),
        tied=np.where(is_found, tied, 0).astype(np.int32),
    )


def _chunks(masks: np.ndarray, depth: int, n: int) -> list[np.ndarray]:
    """Divide the users, shortest mask first, so that few search deeper than they must."""
    order = np.argsort(masks, kind="stable")
    chunks, start = [], 0
    while start < len(order):
        size = CHUNK_USERS
        longest = int(masks[order[min(start + size, len(order)) - 1]])
        size = max(1, min(size, CHUNK_SCORES // min(depth + longest, n)))
        chunks.append(order[start : start + size])
        start += size
    return chunks


def _index(vectors: np.ndarray) -> Any:  # noqa: ANN401  # a FAISS index, here or on GPUs
    """Index [n, D] float32 vectors for exact inner product search, on the GPUs if there are any."""
    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    if faiss.get_num_gpus() > 0:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = True
        index = faiss.index_cpu_to_all_gpus(index, options)
    index.add(vectors)
    return index


def _own_scores(queries: np.ndarray, items: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Score each user's held-out item: [B] float64."""
    return np.asarray(np.einsum("bd,bd->b", queries, items[held_out], dtype=np.float64))


def _all_scores(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Score all items in float64, [B, N + 1], without a float64 copy of all vectors."""
    scores = np.empty((len(queries), len(items)))
    wide = queries.astype(np.float64)
    step = max(1, CHUNK_SCORES // max(1, items.shape[1]))
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
    for name, vectors in (("query", queries), ("item", items[candidates])):
        wrong = int((~np.isfinite(vectors).all(axis=1)).sum())
        if wrong:
            raise ValueError(
                f"{wrong:,} of {len(vectors):,} {name} vectors hold NaN or infinity, and all must "
                "be finite: the model has diverged; train it with a lower learning rate"
            )

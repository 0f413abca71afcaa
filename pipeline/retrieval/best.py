"""Each user's best items among the candidates, by exact search."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.data import sequences
from pipeline.data.sequences import PAD, Lists
from pipeline.retrieval import index

CHUNK_USERS = 4096
CHUNK_SCORES = 1 << 22  # scores held at once: users x depth of the search


class Best(NamedTuple):
    """The best items of some users, best first; equal scores by lower item."""

    users: np.ndarray  # [B] int64, their rows
    items: np.ndarray  # [B, K] int32, PAD at the end where a user has fewer than K left
    scores: np.ndarray  # [B, K] float32, -inf where there is no item


def retrieve(
    queries: np.ndarray, items: np.ndarray, masked: Lists, candidates: np.ndarray, k: int
) -> Iterator[Best]:
    """Give all users' best candidates that are not masked for them, some users at a time.

    Args:
        queries: [U, D] float32, one query vector a user.
        items: [N + 1, D] float32, row i is item i.
        masked: the items that may not be retrieved for each user.
        candidates: [N + 1] bool, the items that may be retrieved; PAD is never one.
        k: how many items to give, at most as many as there are candidates.
    """
    rows = np.flatnonzero(candidates)  # position in the index -> item
    vectors = np.ascontiguousarray(items[rows], np.float32)
    whole = index.index_of(vectors)
    lengths = sequences.lengths(masked)
    deepest = min(k + int(lengths.max(initial=0)), len(rows))
    step = max(1, min(CHUNK_USERS, CHUNK_SCORES // deepest))
    for start in range(0, len(queries), step):
        users = np.arange(start, min(start + step, len(queries)))
        deep = min(k + int(lengths[users].max()), len(rows))
        searched = whole if deep <= whole.limit else index.Flat(vectors)
        scores, found = searched.search(np.ascontiguousarray(queries[users], np.float32), deep)
        yield _choose(users, rows[found], scores, sequences.take(masked, users), len(items), k)


def _choose(
    users: np.ndarray, found: np.ndarray, scores: np.ndarray, masked: Lists, width: int, k: int
) -> Best:
    """Keep the k best of the items found ([B, d] int64) that are not masked."""
    keys = found + np.arange(len(found))[:, None] * width
    is_masked = np.isin(keys, masked.items + sequences.owners(masked) * width)
    scores = np.where(is_masked, np.float32(-np.inf), scores)
    order = np.lexsort((found, -scores), axis=1)[:, :k]  # by score, then by item
    scores = np.take_along_axis(scores, order, axis=1)
    kept = np.where(scores > -np.inf, np.take_along_axis(found, order, axis=1), PAD)
    return Best(users, kept.astype(np.int32), scores)

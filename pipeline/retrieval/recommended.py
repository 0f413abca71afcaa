"""The items that each user is recommended: the best k of a search, in an order without chance.

Items stand by their score, computed in float64; equal scores by their number, the lower first. So
the lists depend neither on chunks nor on the rounding of a float32 search.
"""

from collections.abc import Callable

import numpy as np

from pipeline.data.sequences import PAD
from pipeline.retrieval import scoring
from pipeline.retrieval.scoring import Chunk

SPARE = 8  # items found beyond k, so that ties at the end of a list mostly lie among those found
SLACK = 1e-3  # of the tolerance: far more than the rounding of float64, far less than float32's


def of_search(chunk: Chunk, k: int) -> tuple[np.ndarray, np.ndarray]:
    """List the best k of what a float32 search found, and tell where that is certain.

    Args:
        chunk: what was found; not masked are k + SPARE items a user, or all there are.
        k: how many.

    Returns:
        [B, k] int32, PAD where there are fewer, and [B] bool.
    """
    listed, scores = _unmasked(chunk, k + SPARE)
    kth_score, tolerance = scores[:, k - 1], chunk.tolerance[:, None]
    is_exhausted = chunk.is_complete & (scores[:, -1] == -np.inf)
    is_certain = is_exhausted | (scores[:, -1] < kth_score - chunk.tolerance)

    is_contender = scores >= kth_score[:, None] - tolerance
    is_close = scores[:, 1:] >= scores[:, :-1] - tolerance  # to the one before it
    unclear = np.flatnonzero((is_contender[:, 1:] & is_close).any(axis=1) & is_certain)
    exact = scoring.exactly(chunk.queries[unclear], chunk.items, listed[unclear])
    exact[scores[unclear] == -np.inf] = -np.inf
    order = np.lexsort((listed[unclear], -exact), axis=1)
    listed[unclear] = np.take_along_axis(listed[unclear], order, axis=1)
    return listed[:, :k], is_certain


def of_scores(
    scores: np.ndarray,
    k: int,
    slack: np.ndarray | float,
    exact: Callable[[int, np.ndarray], np.ndarray],
    floor: float = -np.inf,
) -> np.ndarray:
    """List the best k by the scores of all items.

    Args:
        scores: [B, N + 1] float64, -inf where an item may not be retrieved.
        k: how many.
        slack: [B] or one number, by which scores may be wrong.
        exact: gives what counts instead, [n] float64, of a row and its contenders [n], ascending.
        floor: a score that most items of a row may share: where k are above it, they are looked at
            alone.

    Returns:
        [B, k] int32, PAD where there are fewer.
    """
    lists = np.full((len(scores), k), PAD, np.int32)
    slacks = np.broadcast_to(slack, len(scores))
    for row, (own, allowance) in enumerate(zip(scores, slacks, strict=True)):
        best = np.flatnonzero((own >= _kth(own, k, floor) - allowance) & (own > -np.inf))
        best = best[np.argsort(-exact(row, best), kind="stable")][:k]
        lists[row, : len(best)] = best
    return lists


def _kth(scores: np.ndarray, k: int, floor: float) -> float:
    """Find the k-th best of [n] scores, or -inf; those up to `floor` only where they are needed.

    A partition of scores that are mostly equal takes many times as long as one of other scores.
    """
    above = scores[scores > floor]
    if len(above) >= k:
        return float(np.partition(above, len(above) - k)[len(above) - k])
    if floor == -np.inf or np.count_nonzero(scores >= floor) >= k:
        return floor
    return _kth(scores, k, -np.inf)


def _unmasked(chunk: Chunk, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Close the gaps that masked items leave: [B, width] int32 items, and their scores, float64."""
    listed = np.full((len(chunk.found), width), PAD, np.int32)
    scores = np.full((len(chunk.found), width), -np.inf)
    places = np.cumsum(~chunk.is_masked, axis=1) - 1
    rows, columns = np.nonzero(~chunk.is_masked & (places < width))
    to = places[rows, columns]
    listed[rows, to] = chunk.found[rows, columns]
    scores[rows, to] = chunk.scores[rows, columns]
    return listed, scores

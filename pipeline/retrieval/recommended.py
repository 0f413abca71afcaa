"""The items that each user is recommended: the best k of a search, in an order without chance.

Items stand by their score, computed in float64; equal scores by their number, the lower first. So
the lists depend neither on chunks nor on the rounding of a float32 search.
"""

from collections.abc import Callable

import numpy as np

from pipeline.data.sequences import PAD

SPARE = 8  # items found beyond k, so that ties at the end of a list mostly lie among those found
CHUNK_NUMBERS = 1 << 17  # of vectors made float64 at once, so few that they stay in a core's cache
SLACK = 1e-3  # of the tolerance: far more than the rounding of float64, far less than float32's


def of_search(
    queries: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
    found: np.ndarray,
    is_masked: np.ndarray,
    tolerance: np.ndarray,
    k: int,
    complete: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """List the best k of what a float32 search found, and tell where that is certain.

    Args:
        queries: [B, D] float32.
        items: [N + 1, D] float32.
        scores: [B, d] float32, best first; not masked are k + SPARE of them, or all there are.
        found: [B, d] int, the items with these scores.
        is_masked: [B, d] bool, which of them may not be retrieved.
        tolerance: [B], scores that differ by more in float32 differ in earnest.
        k: how many.
        complete: whether all candidates were found.

    Returns:
        [B, k] int32, PAD where there are fewer, and [B] bool.
    """
    listed, ahead = _unmasked(scores, found, is_masked, k + SPARE)
    last, tolerance = ahead[:, k - 1], tolerance[:, None]
    is_exhausted = complete & (ahead[:, -1] == -np.inf)
    is_certain = is_exhausted | (ahead[:, -1] < last - tolerance[:, 0])

    is_contender = ahead >= last[:, None] - tolerance
    is_close = ahead[:, 1:] >= ahead[:, :-1] - tolerance  # to the one before it
    near = np.flatnonzero((is_contender[:, 1:] & is_close).any(axis=1) & is_certain)
    exact = exactly(queries[near], items, listed[near])
    exact[ahead[near] == -np.inf] = -np.inf
    order = np.lexsort((listed[near], -exact), axis=1)
    listed[near] = np.take_along_axis(listed[near], order, axis=1)
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


def exactly(queries: np.ndarray, items: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Score the items found for each user, [B, d], in float64: equal vectors score equally.

    It holds copies of CHUNK_NUMBERS numbers of vectors, however many users and items there are.
    """
    exact = np.empty(found.shape)
    width = max(1, CHUNK_NUMBERS // max(1, items.shape[1]))
    step = max(1, width // max(1, found.shape[1]))
    for start in range(0, len(found), step):
        users = slice(start, start + step)
        wide = queries[users].astype(np.float64)[:, None, :]
        for first in range(0, found.shape[1], width):
            some = found[users, first : first + width]
            exact[users, first : first + width] = np.vecdot(wide, items[some].astype(np.float64))
    return exact


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


def _unmasked(
    scores: np.ndarray, found: np.ndarray, is_masked: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Close the gaps that masked items leave: [B, width] int32 items, and their scores, float64."""
    listed = np.full((len(found), width), PAD, np.int32)
    ahead = np.full((len(found), width), -np.inf)
    places = np.cumsum(~is_masked, axis=1) - 1
    rows, columns = np.nonzero(~is_masked & (places < width))
    to = places[rows, columns]
    listed[rows, to] = found[rows, columns]
    ahead[rows, to] = scores[rows, columns]
    return listed, ahead

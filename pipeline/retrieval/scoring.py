"""Inner products: what a float32 search found, and float64 where that leaves a doubt."""

from typing import NamedTuple, Self

import numpy as np

CHUNK_NUMBERS = 1 << 17  # of vectors made float64 at once, so few that they stay in a core's cache


class Chunk(NamedTuple):
    """Some users and the d items that a float32 search found for each, best first."""

    queries: np.ndarray  # [B, D] float32
    items: np.ndarray  # [N + 1, D] float32, the vectors of all items
    found: np.ndarray  # [B, d] int64, items
    scores: np.ndarray  # [B, d] float32, theirs
    is_masked: np.ndarray  # [B, d] bool, which of them may not be retrieved
    tolerance: np.ndarray  # [B] float64, scores that differ by more in float32 differ in earnest
    is_complete: bool  # whether all candidates were found

    def take(self, rows: np.ndarray) -> Self:
        """Keep some of the users, [n] int64."""
        return self._replace(
            queries=self.queries[rows],
            found=self.found[rows],
            scores=self.scores[rows],
            is_masked=self.is_masked[rows],
            tolerance=self.tolerance[rows],
        )


def exactly(queries: np.ndarray, items: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Score the items found for each user in float64, so that equal vectors score equally.

    It holds copies of CHUNK_NUMBERS numbers of vectors, however many users and items there are.

    Args:
        queries: [B, D] float32.
        items: [N + 1, D] float32.
        found: [B, d] int.

    Returns:
        [B, d] float64.
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


def of_all(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Score all items in float64, [B, N + 1], without a float64 copy of all vectors.

    Args:
        queries: [B, D] float32.
        items: [N + 1, D] float32.
    """
    scores = np.empty((len(queries), len(items)))
    wide = queries.astype(np.float64)
    step = max(1, CHUNK_NUMBERS // max(1, items.shape[1]))
    for start in range(0, len(items), step):
        block = slice(start, start + step)
        scores[:, block] = wide @ items[block].astype(np.float64).T
    return scores

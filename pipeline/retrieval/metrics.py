"""HR@K, NDCG@K and MRR@K of one held-out item a user, ties counted at their expected value."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.data import split
from pipeline.retrieval.ranking import Ranks

CUTOFF = split.CUTOFF  # the K that selects the best epoch and that the report shows


def hit(ranks: Ranks, k: int) -> np.ndarray:
    """Give the chance of each held-out item to be among the first k, under random order of ties.

    With g items better and t tied, itself included, it is clamp((k - g) / t, 0, 1); 0 where the
    item was not retrieved.

    Args:
        ranks: from a search of depth k or more.
        k: the cutoff K.

    Returns:
        [U] float64, fractions.
    """
    within = np.clip((k - ranks.better) / _at_least_1(ranks.tied), 0, 1)
    return np.where(ranks.tied > 0, within, 0.0)


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """Give each held-out item's expected 1 / log2(1 + rank), 0 past rank k: [U] float64.

    Its rank is any of g + 1 .. g + t with equal chance. As there is one held-out item a user, the
    ideal gain is 1.

    Args:
        ranks: from a search of depth k or more.
        k: the cutoff K.
    """
    return _expected(ranks, 1 / np.log2(np.arange(2, k + 2)))


def mrr(ranks: Ranks, k: int) -> np.ndarray:
    """Give each held-out item's expected 1 / rank, 0 past rank k: [U] float64.

    Its rank is any of g + 1 .. g + t with equal chance; the mean over users is MRR@K.

    Args:
        ranks: from a search of depth k or more.
        k: the cutoff K.
    """
    return _expected(ranks, 1 / np.arange(1, k + 1))


MEASURES: dict[str, Callable[[Ranks, int], np.ndarray]] = {"hr": hit, "ndcg": ndcg, "mrr": mrr}


def summary(ranks: Ranks, cutoffs: Sequence[int]) -> dict[str, float]:
    """Average over users: {"hr@10": .., "ndcg@10": .., "mrr@10": ..} a cutoff, as fractions."""
    return {
        f"{name}@{k}": float(measure(ranks, k).mean())
        for name, measure in MEASURES.items()
        for k in cutoffs
    }


def chance(candidates: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """Give the metrics of a random order: a user's HR@K is K / candidates.

    Args:
        candidates: [U] int, items that may be retrieved for each user; 0 where the held-out item is
            none of them, which is a miss.
        cutoffs: the K.
    """
    tied = np.asarray(candidates, np.int32)
    return summary(Ranks(np.zeros_like(tied), tied), cutoffs)


def _expected(ranks: Ranks, gains: np.ndarray) -> np.ndarray:
    """Average gains over the ranks of each tie: [U] float64.

    Args:
        ranks: of U users.
        gains: [k] float64, of ranks 1..k; past them they are 0.
    """
    k, sums = len(gains), np.concatenate([[0.0], np.cumsum(gains)])
    first, last = np.minimum(ranks.better, k), np.minimum(ranks.better + ranks.tied, k)
    return np.asarray((sums[last] - sums[first]) / _at_least_1(ranks.tied))


def _at_least_1(tied: np.ndarray) -> np.ndarray:
    """Give what to divide by, [U] int32: how many are tied, 1 where the item was not retrieved."""
    return np.asarray(np.maximum(tied, 1))

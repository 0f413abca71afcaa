"""What the lists of all users together show of the catalogue: coverage and Gini coefficient."""

from collections.abc import Sequence

import numpy as np

CHUNK_USERS = 1 << 16  # counted at once


def exposures(lists: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """Count in how many users' first k each candidate stands: [n] int64, in order of the items.

    Args:
        lists: [U, k or more] int, items best first; PAD, which is no candidate, fills up.
        candidates: [N + 1] bool, the n items that may be retrieved.
        k: the cutoff K.
    """
    counts: np.ndarray = np.zeros(len(candidates), np.int64)
    for start in range(0, len(lists), CHUNK_USERS):
        some = lists[start : start + CHUNK_USERS, :k]
        counts += np.bincount(some.ravel(), minlength=len(candidates))
    return np.asarray(counts[candidates])


def coverage(counts: np.ndarray) -> float:
    """Give the share of candidates that stand in at least one list: |union of lists| / n.

    Source: Ge, Delgado-Battenfeld and Jannach, Beyond accuracy, RecSys 2010 (catalogue coverage).

    Args:
        counts: [n] int, how often each candidate is listed, 0 for those that never are.
    """
    return float((counts > 0).mean())


def gini(counts: np.ndarray) -> float:
    """Give the Gini coefficient of how often each candidate is listed.

    With n candidates, those never listed included, in ascending order of their share p_i of all
    places in the lists,

        G = 1 / (n - 1) * sum_i (2 i - n - 1) p_i,    i = 1..n:

    0 where all are listed equally often, 1 where one item has every place. As a list has K
    different items, the largest value that lists of K can have is (n - K) / (n - 1).

    Source: Shani and Gunawardana, Evaluating recommendation systems, in Recommender Systems
    Handbook (2011).

    Args:
        counts: [n] int, how often each candidate is listed, 0 for those that never are.
    """
    n, total = len(counts), counts.sum()
    if n == 1 or not total:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / total / (n - 1))


MEASURES = {"coverage": coverage, "gini": gini}


def names(cutoffs: Sequence[int]) -> list[str]:
    """Name what `summary` gives."""
    return [f"{name}@{k}" for k in cutoffs for name in MEASURES]


def summary(lists: np.ndarray, candidates: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """Describe lists at each cutoff: {"coverage@10": .., "gini@10": ..}, fractions."""
    found: dict[str, float] = {}
    for k in cutoffs:
        counts = exposures(lists, candidates, k)
        found |= {f"{name}@{k}": measure(counts) for name, measure in MEASURES.items()}
    return found

"""What a sample of users says about all users: bootstrap intervals, p-values, Holm's correction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK_DRAWS = 1 << 22  # numbers drawn at once


class Estimate(NamedTuple):
    """A mean over users with its interval."""

    mean: float
    low: float
    high: float
    p: float  # two-sided, of a mean of zero


def bootstrap(values: np.ndarray, generator: np.random.Generator) -> Estimate:
    """Estimate a mean over users, with the percentile interval of resampled users.

    For a paired comparison, `values` are the differences user by user. Most users share one of a
    few values, so it is drawn how often each value occurs: the same distribution as drawing users
    one by one, at a cost that does not grow with their number.

    Args:
        values: [U] float, one value a user.
        generator: where the resamples come from.
    """
    distinct, counts = np.unique(values, return_counts=True)
    means = np.empty(RESAMPLES)
    step = max(1, CHUNK_DRAWS // len(distinct))
    for start in range(0, RESAMPLES, step):
        chunk = means[start : start + step]
        drawn = generator.multinomial(len(values), counts / len(values), len(chunk))
        chunk[:] = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    fewer = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (int(fewer) + 1) / (RESAMPLES + 1))
    return Estimate(float(values.mean()), float(low), float(high), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, as Holm does: the k-th smallest of m times m - k + 1."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.minimum(1, np.asarray(p_values)[order] * factors))
    return [float(p) for p in corrected]

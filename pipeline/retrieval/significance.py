"""What a sample of users says about all: intervals, p-values, Holm's correction, mean ranks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK_DRAWS = 1 << 22  # numbers drawn at once
MOST_SUMS = 1 << 16  # different sums of signed values up to which their distribution is exact
DIGITS = 12  # sizes that agree so far, in units of the largest, are equal; so are scores
CLOSE = 1e-9  # sums that differ by less, in units of the largest possible one, are equal


class Estimate(NamedTuple):
    """A mean over users with its interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: np.ndarray, generator: np.random.Generator) -> Estimate:
    """Estimate a mean over users, with the percentile interval of resampled users.

    For a paired comparison, `values` are the differences user by user. Where users share values, it
    is drawn how often each value occurs: the same distribution as drawing users one by one, at a
    cost that grows with the different values. Of one seed they are few, however many users there
    are; averages over several seeds are more, and grow with the users.

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
    return Estimate(float(values.mean()), float(low), float(high))


def sign_flip(differences: np.ndarray) -> float:
    """Test whether two runs are exchangeable: Fisher's paired randomisation test, two-sided.

    If they are, each user's difference is as likely as its negative, so with independent fair
    signs e_u

        p = P( |sum_u e_u |d_u|| >= |sum_u d_u| ).

    Users who do not differ say nothing. With w users for one run and none for the other,
    p = 2^(1 - w); for hits alone this is the exact McNemar test. The distribution is computed
    exactly while it has at most MOST_SUMS different sums: for hits of tens of thousands of
    users who differ, and for 16 users whose differences are all of different size. Beyond, the
    sum has mean 0 and variance sum d_u^2, and p = erfc(|z| / sqrt 2) with
    z = sum d_u / sqrt(sum d_u^2). Signed sums have a negative excess kurtosis,
    -2 sum d_u^4 / (sum d_u^2)^2, so this errs upward where p is small.

    Source: R. A. Fisher, The Design of Experiments (1935), section 21; recommended for comparing
    retrieval systems by Smucker, Allan and Carterette, CIKM 2007.

    Args:
        differences: [U] float, one run less the other, user by user.

    Returns:
        p in [0, 1]; it has no floor but that of float64.
    """
    kept = differences[differences != 0]
    if not len(kept):
        return 1.0
    sizes = np.round(np.abs(kept) / np.abs(kept).max(), DIGITS)
    shares = sizes / sizes.sum()
    total = abs(float(shares @ np.sign(kept)))
    found = _signed_sums(shares)
    if found is None:
        return math.erfc(total / math.sqrt(2 * float(shares @ shares)))
    sums, chances = found
    return min(1.0, float(chances[np.abs(sums) >= total - CLOSE].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, as Holm does: the k-th smallest of m times m - k + 1."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.minimum(1, np.asarray(p_values)[order] * factors))
    return [float(p) for p in corrected]


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank runs on each data set: 1 is best, ties share the mean of the ranks they take.

    The mean over data sets compares runs over several of them.

    Source: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7
    (2006), section 3.2.2.

    Args:
        scores: [data sets, runs] float; more is better, equal to DIGITS is equal.

    Returns:
        [data sets, runs] float64.
    """
    return np.asarray(stats.rankdata(-np.round(scores, DIGITS), method="average", axis=1))


def _signed_sums(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Give the sums that random signs can make and their chances; None if there are too many.

    Sizes that several users share come in together, as a binomial number of plus signs.

    Args:
        shares: [n] float64, positive, of sum 1.
    """
    distinct, counts = np.unique(shares, return_counts=True)
    sums: np.ndarray = np.zeros(1)
    chances: np.ndarray = np.ones(1)
    for size, count in zip(distinct, counts, strict=True):
        if len(sums) * (count + 1) > 2 * MOST_SUMS:
            return None
        plus = np.arange(count + 1)
        moved = np.add.outer(sums, size * (2 * plus - count)).ravel()
        weighed = np.multiply.outer(chances, stats.binom.pmf(plus, count, 0.5)).ravel()
        _, first, where = np.unique(np.round(moved / CLOSE), return_index=True, return_inverse=True)
        sums, chances = moved[first], np.bincount(where, weighed)
    return (sums, chances) if len(sums) <= MOST_SUMS else None

"""Users apart by a property of theirs: which slices there are, and a run's result on each."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.reporting import results
from pipeline.reporting.overlap import Overlap
from pipeline.reporting.results import Outcome, Result
from pipeline.retrieval.significance import Estimate

OCCURRENCES = (0, 1, 3, 10, 50)  # the least of each slice: times an item stands in train parts
HISTORIES = (1, 5, 10, 20)  # the least of each slice: items before the test item
LEAST = 20  # users of a slice that is drawn


def by_source(outcome: Outcome, shared: Mapping[str, Overlap]) -> dict[str, np.ndarray]:
    """Divide users by whether the source has their held-out item."""
    is_known = shared[outcome.group.target].is_known
    return {"in the source": is_known, "not in the source": ~is_known}


def is_divided(outcome: Outcome, shared: Mapping[str, Overlap]) -> bool:
    """Tell whether the source has some users' held-out items and lacks others', enough to draw."""
    return all(users.sum() >= LEAST for users in by_source(outcome, shared).values())


def by_occurrences(outcome: Outcome) -> dict[str, np.ndarray]:
    """Divide users by how often their held-out test item stands in all users' train parts."""
    return ranges(outcome.users["occurrences"].to_numpy(), OCCURRENCES)


def by_history(outcome: Outcome) -> dict[str, np.ndarray]:
    """Divide users by how many items before the test item a user encoder reads."""
    return ranges(outcome.users["history"].to_numpy(), HISTORIES)


def ranges(numbers: np.ndarray, least: Sequence[int]) -> dict[str, np.ndarray]:
    """Divide users by a number: {"0": [U] bool, "1-2": .., "50+": ..}, none without users.

    Args:
        numbers: [U] int, one a user.
        least: the least number of each range, ascending; the last one has no end.
    """
    which = np.searchsorted(least, numbers, side="right") - 1
    pairs = itertools.pairwise(least)
    ends = [f"-{after - 1}" if after - 1 > first else "" for first, after in pairs]
    titles = [f"{first}{end}" for first, end in zip(least, [*ends, "+"], strict=True)]
    found = {title: which == place for place, title in enumerate(titles)}
    return {title: users for title, users in found.items() if users.any()}


def estimate(result: Result, users: np.ndarray) -> Estimate:
    """Estimate a run's test HR@10 on some users, [U] bool."""
    return results.bootstrap(result.values["test", results.HR].mean(axis=0)[users])

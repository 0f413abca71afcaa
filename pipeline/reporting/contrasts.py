"""The differences the report states, with intervals, and which of them may be claimed."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.reporting import results
from pipeline.reporting.results import Group, Outcome, Result
from pipeline.retrieval import significance
from pipeline.retrieval.significance import Estimate

ALPHA = 0.05


class Contrast(NamedTuple):
    """One run less another, on the test items of the same users."""

    group: Group
    run: str
    base: str
    metric: str
    difference: Estimate
    p: float  # corrected for all contrasts of the report
    sd: float | None  # of the difference between seeds, where either run has several
    capped: bool

    @property
    def pair(self) -> str:
        """Name the difference as plain text."""
        return f"{self.run} - {self.base}"

    @property
    def reading(self) -> str:
        """Say what may be said: higher, lower, not shown, or nothing since a run was capped."""
        found = self.difference
        if self.capped:
            return "capped"
        is_clear = self.p < ALPHA and (found.low > 0 or found.high < 0)
        if not is_clear or (self.sd is not None and abs(found.mean) <= self.sd):
            return "not shown"
        return "higher" if found.mean > 0 else "lower"


def state(outcomes: Iterable[Outcome], pairs: Sequence[Sequence[str]]) -> list[Contrast]:
    """State all contrasts whose runs are there, in both metrics, and correct p for all of them.

    Args:
        outcomes: the groups.
        pairs: a run and the one it is compared with, each.
    """
    stated = []
    for outcome in outcomes:
        for run, base in pairs:
            if run in outcome.results and base in outcome.results:
                pair = outcome.results[run], outcome.results[base]
                stated += [_contrast(outcome.group, *pair, metric) for metric in results.METRICS]
    corrected = significance.holm([one.p for one in stated])
    return [one._replace(p=p) for one, p in zip(stated, corrected, strict=True)]


def _contrast(group: Group, run: Result, base: Result, metric: str) -> Contrast:
    mine, other = run.values["test", metric], base.values["test", metric]  # [S, U]
    by_user = mine.mean(axis=0) - other.mean(axis=0)
    p = significance.sign_flip(by_user)
    sd = results.spread(mine.mean(axis=1) - other.mean(axis=1))  # what trains nothing has one seed
    is_capped = run.capped or base.capped
    return Contrast(group, run.run, base.run, metric, results.bootstrap(by_user), p, sd, is_capped)

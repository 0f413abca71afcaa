"""The differences the report states, with intervals, and which of them may be claimed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.data import pairs
from pipeline.reporting import results
from pipeline.reporting.results import Group, Outcome
from pipeline.retrieval import significance
from pipeline.retrieval.significance import Estimate

ALPHA = 0.05
Sides = tuple[tuple[Group, str], tuple[Group, str]]  # a run of a group, and the one it is less


class Contrast(NamedTuple):
    """One run less another, on the test items of the same users."""

    group: Group  # the run's
    run: str
    base_group: Group  # of the same target
    base: str
    metric: str
    difference: Estimate
    p: float  # corrected for all contrasts of the report
    sd: float | None  # of the difference between seeds, where either run has several
    capped: bool

    @property
    def pair(self) -> str:
        """Name the difference as plain text."""
        run, base = self.places
        return f"{run}{self.run} - {base}{self.base}"

    @property
    def places(self) -> tuple[str, str]:
        """Say of each side by which content and user encoder it differs: "both/", or nothing."""
        parts = [(a, b) for a, b in zip(self.group, self.base_group, strict=True) if a != b]
        return "".join(f"{a}/" for a, _ in parts), "".join(f"{b}/" for _, b in parts)

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


def state(outcomes: Iterable[Outcome], wanted: Sequence[Sequence[str]]) -> list[Contrast]:
    """State all contrasts whose runs are there, in both metrics, and correct p for all of them.

    Args:
        outcomes: the groups, each once.
        wanted: a run and the one it is compared with, each, as `pairs` reads them.
    """
    return correct(compare(outcomes, wanted))


def compare(outcomes: Iterable[Outcome], wanted: Sequence[Sequence[str]]) -> list[Contrast]:
    """Do as `state` does, with each p for itself."""
    known = {one.group: one for one in outcomes}
    found = [sides for group in known for pair in wanted if (sides := _find(known, group, pair))]
    distinct: dict[object, Sides] = {}
    for sides in found:
        distinct.setdefault(_essence(sides), sides)
    return [
        _contrast(known, sides, metric) for sides in distinct.values() for metric in results.METRICS
    ]


def unstated(outcomes: Iterable[Outcome], wanted: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """List the pairs that are wanted, but of no group whose runs are there."""
    known = {one.group: one for one in outcomes}
    return [pair for pair in wanted if not any(_find(known, group, pair) for group in known)]


def _essence(sides: Sides) -> tuple[str, frozenset[pairs.Side]]:
    """Tell which pairs of sides are one and the same difference, or its negative."""
    (group, _), _ = sides
    named = (pairs.Side(where.content, where.user, run) for where, run in sides)
    return group.target, frozenset(side.essence() for side in named)


def correct(stated: Sequence[Contrast]) -> list[Contrast]:
    """Correct p for all contrasts that are stated together."""
    corrected = significance.holm([one.p for one in stated])
    return [one._replace(p=p) for one, p in zip(stated, corrected, strict=True)]


def _find(known: Mapping[Group, Outcome], group: Group, pair: Sequence[str]) -> Sides | None:
    """Find the sides of a pair of which the first belongs to a group, where both runs are there."""
    run, base = (
        (Group(group.target, side.content or group.content, side.user or group.user), side.run)
        for side in pairs.read(pair)
    )
    are_there = all(where in known and name in known[where].results for where, name in (run, base))
    return (run, base) if are_there and run[0] == group else None


def _contrast(known: Mapping[Group, Outcome], sides: Sides, metric: str) -> Contrast:
    run, base = (known[group].results[name] for group, name in sides)
    mine, other = run.values["test", metric], base.values["test", metric]  # [S, U]
    by_user = mine.mean(axis=0) - other.mean(axis=0)
    p = significance.sign_flip(by_user)
    sd = results.spread(mine.mean(axis=1) - other.mean(axis=1))  # what trains nothing has one seed
    is_capped = run.capped or base.capped
    return Contrast(*sides[0], *sides[1], metric, results.bootstrap(by_user), p, sd, is_capped)

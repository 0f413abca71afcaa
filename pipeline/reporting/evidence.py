"""All that a report is made of, read from the stages' outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.data.progress import Progress
from pipeline.reporting import cards, contrasts, costs, overlap, results
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.costs import Costs
from pipeline.reporting.overlap import Catalogue, Overlap
from pipeline.reporting.results import Group, Outcome


class Wanted(NamedTuple):
    """What params.yaml lists, and so what the report is about."""

    sources: list[str]
    targets: list[str]
    contents: list[str]
    users: list[str]
    runs: list[str]  # in the order of the tables
    seeds: list[int]
    contrasts: list[list[str]]  # a run and the one it is compared with, each
    illustrated: list[str]  # the domains whose covers are packed; what others have left is old

    def groups(self) -> list[Group]:
        """List the groups, those of one content and user encoder together."""
        return [Group(t, c, u) for c in self.contents for u in self.users for t in self.targets]


class Where(NamedTuple):
    """The folders of the stages' outputs."""

    prepared: Path
    cards: Path
    evaluated: Path
    costs: Path


class Evidence(NamedTuple):
    """What was found."""

    outcomes: list[Outcome]
    contrasts: list[Contrast]
    unstated: list[Sequence[str]]  # pairs that are wanted, of which a run is not
    overlaps: dict[str, Overlap]  # by target; empty without a source
    cards: dict[str, dict[str, Any]]  # by domain, the source first
    costs: Costs
    oracle: dict[str, float]  # the best possible HR@10 by target, where it is known
    sources: list[str]
    seeds: int

    def series(self) -> dict[tuple[str, str], list[Outcome]]:
        """Put the outcomes of each content and user encoder together."""
        found: dict[tuple[str, str], list[Outcome]] = {}
        for one in self.outcomes:
            found.setdefault((one.group.content, one.group.user), []).append(one)
        return found


def gather(wanted: Wanted, where: Where) -> Evidence:
    """Read everything that is wanted, and state the differences.

    Raises:
        Stop: an evaluation is missing, or covers are not those of the prepared domain.
    """
    groups = wanted.groups()
    spent = costs.load(where.costs, groups, wanted.runs, wanted.sources)
    progress, outcomes = Progress("report, groups of runs", len(groups)), []
    for group in groups:
        is_capped = capped(spent, group, wanted)
        outcomes.append(results.load(where.evaluated, group, wanted.runs, is_capped))
        progress.advance(1)
    described = cards.load(where.cards, [*wanted.sources, *wanted.targets], wanted.illustrated)
    best = {name: card["oracle"]["hr@10"] for name, card in described.items() if "oracle" in card}
    return Evidence(
        outcomes=outcomes,
        contrasts=contrasts.state(outcomes, wanted.contrasts),
        unstated=contrasts.unstated(outcomes, wanted.contrasts),
        overlaps=_overlaps(where, wanted),
        cards=described,
        costs=spent,
        oracle={target: best[target] for target in wanted.targets if target in best},
        sources=wanted.sources,
        seeds=len(wanted.seeds),
    )


def capped(spent: Costs, group: Group, wanted: Wanted) -> set[str]:
    """Name the runs that start from a source's model which was capped."""
    return {
        run
        for run in wanted.runs
        for name in costs.on_source(group, run, wanted.sources)
        if name in spent.others and spent.others[name].capped
    }


def _overlaps(where: Where, wanted: Wanted) -> dict[str, Overlap]:
    if not wanted.sources:
        return {}
    source, *targets = (
        _catalogue(where, domain, domain in wanted.illustrated)
        for domain in [*wanted.sources, *wanted.targets]
    )
    measured = (overlap.measure(source, target) for target in targets)
    return dict(zip(wanted.targets, measured, strict=True))


def _catalogue(where: Where, domain: str, is_illustrated: bool) -> Catalogue:
    digests = where.cards / domain / "covers" / "digests.parquet"
    return overlap.load(where.prepared / domain, digests if is_illustrated else None)

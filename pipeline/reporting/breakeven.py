"""The break-even curve: how end to end compares with frozen over the number of users."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.data.card import escape
from pipeline.reporting import (
    captions,
    contrasts,
    cost_tables,
    costs,
    looks,
    markdown,
    results,
    tables,
)
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.costs import Costs
from pipeline.reporting.results import Group, Outcome

ARMS = ("frozen", "end2end")
RUNS = ("id", *ARMS)
DIFFERENCE = f"end2end {markdown.MINUS} frozen"
TIMES = "\N{MULTIPLICATION SIGN}"
ABOUT = (
    "Each number of users is a seeded sample, contained in every larger one. Runs are trained and "
    "tested on that sample, so from one number of users to the next the test users and "
    "the candidates differ too: compare runs at one number of users; a run's climb is not the gain "
    "from more data alone. Few users also mean wide intervals: *not shown* there means that they "
    "are too few to show such a difference, not that there is none."
)
FIGURE = (
    "Above, test HR@10 of the runs with 95 % intervals over users; below, what end to end adds to "
    "frozen, with its interval around zero, and what it takes. Only filled marks are claimed; the "
    "intervals are not corrected for their number, the claims are."
)
COST = (
    "Time sums all trials of the search, all seeds and the embedding of the items, which both arms "
    f"stand on; {TIMES} is that of `end2end` over that of `frozen`."
)
SCHEMA = pl.Schema(
    {
        "users": pl.Int64,
        "candidates": pl.Int64,
        "run": pl.String,  # one of RUNS, or the difference of ARMS
        "metric": pl.String,  # on test
        "seed": pl.Int64,  # null: all of them, averaged user by user
        "mean": pl.Float64,  # a fraction, as are low, high and sd
        "low": pl.Float64,
        "high": pl.Float64,
        "sd": pl.Float64,  # between seeds, where there are several
        "p": pl.Float64,  # of a difference, corrected
        "reading": pl.String,  # of a difference
        "capped": pl.Boolean,
        "seconds": pl.Float64,  # of a run: all trials, all seeds and the embedding
    }
)


class Point(NamedTuple):
    """What was found with one number of users."""

    outcome: Outcome
    differences: dict[str, Contrast]  # of ARMS by metric; p is corrected for those of all points
    costs: Costs
    seeds: list[int]  # ascending

    @property
    def users(self) -> int:
        """Count the users."""
        return self.outcome.counts["users"]

    @property
    def ratio(self) -> float | None:
        """Give the time of end to end over that of frozen; None if either is unknown."""
        frozen, end2end = map(self.seconds, ARMS)
        return end2end / frozen if frozen and end2end is not None else None

    def seconds(self, run: str) -> float | None:
        """Give what a run took, with the embedding; None if its cost was not written."""
        key = (self.outcome.group, run)
        cost = self.costs.runs.get(key)
        return None if cost is None else cost.seconds + self.costs.shares.get(key, 0.0)


def gather(group: Group, folders: Sequence[tuple[Path, Path]], seeds: Sequence[int]) -> list[Point]:
    """Read what was found with every number of users, the least first.

    Args:
        group: whose runs.
        folders: of each number of users, all evaluations and all costs.
        seeds: those of the runs.

    Raises:
        Stop: an evaluation is missing.
    """
    outcomes = [results.load(evaluated, group, [*RUNS], set()) for evaluated, _ in folders]
    apart = [one for outcome in outcomes for one in contrasts.compare([outcome], [ARMS[::-1]])]
    stated = iter(contrasts.correct(apart))
    points = [
        Point(
            outcome,
            {metric: next(stated) for metric in results.METRICS},
            costs.load(spent, [group], [*RUNS], []),
            sorted(seeds),
        )
        for outcome, (_, spent) in zip(outcomes, folders, strict=True)
    ]
    return sorted(points, key=lambda point: point.users)


def table(points: Sequence[Point]) -> pl.DataFrame:
    """Lay all numbers out in rows of SCHEMA: a run or the difference, a metric, a seed or all."""
    rows = [row for point in points for row in [*_runs(point), *_differences(point)]]
    return pl.DataFrame(rows, schema=SCHEMA)


def document(points: Sequence[Point], picture: str) -> str:
    """Write the curve as Markdown: what it says, the figure, the tables.

    Args:
        points: the least users first.
        picture: where the figure lies, beside the text.
    """
    group = points[0].outcome.group
    alt = "Test HR@10 of id, frozen and end2end over the number of users, and their difference"
    parts = [
        "# How many users it takes before end to end pays",
        f"Target {escape(group.target)}, content {group.content}, user encoder "
        f"{escape(group.user)}; every run starts from scratch.",
        verdict(points),
        ABOUT,
        f"![{alt}]({picture})",
        FIGURE,
        _reading(points),
    ]
    if looks.capped(point.outcome for point in points):
        parts.append(captions.CAPPED)
    parts += [scores(points, metric) for metric in results.METRICS]
    parts += ["## Cost", COST, times(points), "## Results and their cost", captions.COST]
    for point in points:
        parts.append(f"### {point.users:,} users")
        parts.append(cost_tables.details(point.outcome, point.costs, {}))
        parts.append(captions.counts(point.outcome))
    return "\n\n".join(parts) + "\n"


def verdict(points: Sequence[Point]) -> str:
    """Say from which number of users on end to end is higher, then how each one reads."""
    found = [point.differences[results.HR] for point in points]
    first = len(found)
    while first and found[first - 1].reading == "higher":
        first -= 1
    if first < len(found):
        said = (
            f"**From {points[first].users:,} users on**, of the numbers tried, `end2end` is higher "
            "than `frozen` in test HR@10. Differences in points of percent:"
        )
    else:
        said = (
            f"**No break-even is shown**: with {points[-1].users:,} users, the most that were "
            "tried, `end2end` is not shown to be higher than `frozen` in test HR@10. Differences "
            "in points of percent:"
        )
    lines = []
    for reading in looks.READINGS:
        shown = [
            f"{point.users:,} users {markdown.signed(one.difference.mean)}"
            for point, one in zip(points, found, strict=True)
            if one.reading == reading
        ]
        if shown:
            lines.append(f"- {tables.READINGS.get(reading, reading)}: {', '.join(shown)}")
    return "\n".join([said, "", *lines])


def scores(points: Sequence[Point], metric: str) -> str:
    """Set the runs and the difference side by side: a row a number of users."""
    rows = []
    for point in points:
        rows.append(
            [
                markdown.count(point.users),
                markdown.count(point.outcome.counts["candidates"]),
                *(tables.cell(point.outcome.results[run], "test", metric) for run in RUNS),
                *tables.judged(point.differences[metric]),
            ]
        )
    header = ["users", "candidates", *(f"{run}, {tables.title(metric)}" for run in RUNS)]
    header += [f"{DIFFERENCE}, points", "p (Holm)", "reading"]
    return markdown.table(header, rows, numbers_from=0)


def times(points: Sequence[Point]) -> str:
    """Set the times of the arms side by side: a row a number of users."""
    rows = [
        [markdown.count(point.users), *(time(point, run) for run in ARMS), ratio(point)]
        for point in points
    ]
    return markdown.table(["users", *ARMS, TIMES], rows, numbers_from=0)


def time(point: Point, run: str) -> str:
    """Show what a run took."""
    seconds = point.seconds(run)
    return markdown.NOTHING if seconds is None else markdown.seconds(seconds)


def ratio(point: Point) -> str:
    """Show how many times the time of frozen end to end took."""
    return markdown.NOTHING if point.ratio is None else f"{point.ratio:.1f}"


def _reading(points: Sequence[Point]) -> str:
    """Say what the numbers of the page are and cover."""
    seeds, differences = len(points[0].seeds), len(points) * len(results.METRICS)
    trainings = "one training" if seeds == 1 else f"the mean of {seeds} trainings"
    spread = f"; ± is the standard deviation between the {seeds} seeds" if seeds > 1 else ""
    return (
        f"Numbers are percent of the test, with 95 % bootstrap intervals in brackets: over users, "
        f"{trainings}{spread}. {captions.judged(differences, seeds)}"
    )


def _runs(point: Point) -> list[dict[str, Any]]:
    """Give the rows of the runs; where there are several seeds, those of each one too."""
    rows = []
    for run, metric in itertools.product(RUNS, results.METRICS):
        result = point.outcome.results[run]
        known = {**_known(point, run, metric), "capped": result.capped}
        mean, sd = result.estimates["test", metric], result.sds["test", metric]
        rows.append({**known, **mean._asdict(), "sd": sd, "seconds": point.seconds(run)})
        if len(point.seeds) > 1:
            for seed, values in zip(point.seeds, result.values["test", metric], strict=True):
                rows.append({**known, "seed": seed, **results.bootstrap(values)._asdict()})
    return rows


def _differences(point: Point) -> list[dict[str, Any]]:
    """Give the rows of the difference."""
    rows = []
    for metric, one in point.differences.items():
        said = {"sd": one.sd, "p": one.p, "reading": one.reading, "capped": one.capped}
        rows.append({**_known(point, one.pair, metric), **one.difference._asdict(), **said})
    return rows


def _known(point: Point, run: str, metric: str) -> dict[str, Any]:
    candidates = point.outcome.counts["candidates"]
    return {"users": point.users, "candidates": candidates, "run": run, "metric": metric}

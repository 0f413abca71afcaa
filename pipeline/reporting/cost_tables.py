"""The report's tables of cost: beside every run's numbers, and of what several runs stand on."""

from collections.abc import Mapping

from pipeline.reporting import markdown, results, tables
from pipeline.reporting.costs import ZEROSHOT, Cost, Costs
from pipeline.reporting.results import Outcome

SPENT = [
    "time", "of it the search", "one training", "with its share of pre-training", "users/s",
    "peak memory", "trained parameters", "of all", "epochs", "trials", "device",
]  # fmt: skip


def details(outcome: Outcome, costs: Costs, oracle: Mapping[str, float]) -> str:
    """Put the cost beside every number of a group: a row a run."""
    numbers = [(metric, part) for metric in results.METRICS for part in tables.PARTS]
    header = ["run"]
    header += [f"{tables.title(metric)} {tables.PARTS[part]}" for metric, part in numbers]
    rows = []
    for name, result in outcome.results.items():
        cells = [tables.cell(result, part, metric) for metric, part in numbers]
        key = (outcome.group, name)
        spent = _spent(name, costs.runs.get(key), costs.shares.get(key))
        rows.append([tables.label(name), *cells, *spent])
    nothing = [markdown.NOTHING] * len(SPENT)
    chance = [markdown.percent(outcome.chance[metric]) for metric, _ in numbers]
    rows.append(["random", *chance, *nothing])
    if outcome.group.target in oracle:
        best = [tables.best_possible(oracle, outcome, part, metric) for metric, part in numbers]
        rows.append(["oracle", *best, *nothing])
    return markdown.table([*header, *SPENT], rows)


def foundations(others: Mapping[str, Cost]) -> str:
    """List the cost of what several runs stand on: embeddings and pre-training."""
    rows = []
    for name, cost in sorted(others.items()):
        rate = markdown.NOTHING
        if cost.items_per_second is not None:
            rate = f"{cost.items_per_second:,.0f} items/s"
        elif cost.users_per_second is not None:
            rate = f"{cost.users_per_second:,.0f} users/s"
        rows.append(
            [
                markdown.escape(name) + (tables.DAGGER if cost.capped else ""),
                markdown.seconds(cost.seconds),
                _search(cost),
                _phases(cost),
                rate,
                markdown.gigabytes(cost.peak_memory_bytes),
                markdown.count(cost.trained_parameters),
                markdown.count(cost.epochs),
                markdown.count(cost.trials),
                markdown.escape(cost.device),
            ]
        )
    header = ["step", "time", "of it the search", "one training", "rate", "peak memory"]
    header += ["trained parameters", "epochs", "trials", "device"]
    return markdown.table(header, rows)


def _spent(run: str, cost: Cost | None, share: float | None) -> list[str]:
    """Show a run's cost in the columns SPENT; a run that trains nothing has only its share."""
    if cost is None:
        return [markdown.NOTHING] * len(SPENT)
    trains = run not in ZEROSHOT
    own = cost.seconds if trains else 0.0
    rate = cost.users_per_second if trains else None
    return [
        markdown.seconds(own) if trains else markdown.NOTHING,
        _search(cost) if trains else markdown.NOTHING,
        _phases(cost) if trains else markdown.NOTHING,
        markdown.NOTHING if share is None else markdown.seconds(own + share),
        markdown.count(rate or None),
        markdown.gigabytes(cost.peak_memory_bytes),
        markdown.count(cost.trained_parameters),
        markdown.count(cost.parameters),
        markdown.count(cost.epochs),
        markdown.count(cost.trials),
        markdown.escape(cost.device),
    ]


def _search(cost: Cost) -> str:
    """Show the trials' time where more than one point was tried."""
    if cost.search_seconds is None or (cost.trials or 0) < 2:  # noqa: PLR2004  # one is no search
        return markdown.NOTHING
    return markdown.seconds(cost.search_seconds)


def _phases(cost: Cost) -> str:
    """Show what the phases of one training took, and the frozen part of an encoder."""
    phases = {
        "probe": cost.probe_seconds,
        "joint": cost.joint_seconds,
        "prefix": cost.prefix_seconds,
    }
    shown = [f"{name} {markdown.seconds(time)}" for name, time in phases.items() if time]
    return ", ".join(shown) or markdown.NOTHING

"""The report's tables of cost: beside every run's numbers, and of what several runs stand on."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pipeline.data import kinds
from pipeline.data.card import escape
from pipeline.reporting import markdown, results, tables
from pipeline.reporting.costs import Cost, Costs
from pipeline.reporting.results import Outcome

SPENT = [
    "time", "of it the search", "one training", "with its share of pre-training", "users/s",
    "peak memory", "trained parameters", "of all", "epochs", "trials", "device",
]  # fmt: skip

WORK = ["FLOPs a step", "an epoch", "to the best epoch", "run folder", "embeddings", "kept prefix"]
Number = TypeVar("Number", int, float)


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


def work(outcomes: Sequence[Outcome], costs: Costs) -> str:
    """Say what a step, an epoch and the artifacts of each run take: a row a target and run."""
    rows = []
    for outcome in outcomes:
        for result in outcome.runs:
            cost = costs.runs.get((outcome.group, result.run))
            if cost is not None:
                name = tables.label(result.run) + tables.marked(result)
                rows.append([escape(outcome.group.target), name, *_work(cost)])
    return markdown.table(["target", "run", *WORK], rows, numbers_from=2)


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
                escape(name) + (tables.DAGGER if cost.capped else ""),
                markdown.seconds(cost.seconds),
                _search(cost),
                _phases(cost),
                rate,
                markdown.gigabytes(cost.peak_memory_bytes),
                markdown.count(cost.trained_parameters),
                markdown.count(cost.epochs),
                markdown.count(cost.trials),
                escape(cost.device),
            ]
        )
    header = ["step", "time", "of it the search", "one training", "rate", "peak memory"]
    header += ["trained parameters", "epochs", "trials", "device"]
    return markdown.table(header, rows)


def _spent(run: str, cost: Cost | None, share: float | None) -> list[str]:
    """Show a run's cost in the columns SPENT; a run that trains nothing has only its share."""
    if cost is None:
        return [markdown.NOTHING] * len(SPENT)
    trains = kinds.RUNS[run].trains
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
        escape(cost.device),
    ]


def _work(cost: Cost) -> list[str]:
    """Show what a run's steps, epochs and artifacts take in the columns WORK."""
    epochs = {"probe": cost.probe_epoch_seconds, "joint": cost.joint_epoch_seconds}
    steps = {"probe": cost.probe_step_flops, "joint": cost.joint_step_flops}
    best, trains = cost.best_epoch_seconds, any(epochs.values())
    return [
        _by_phase(steps, markdown.flops),
        _by_phase(epochs, markdown.seconds),
        markdown.seconds(best) if trains and best is not None else markdown.NOTHING,
        markdown.megabytes(cost.run_bytes),
        markdown.megabytes(cost.embeddings_bytes),
        markdown.megabytes(cost.prefix_bytes),
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
    return _by_phase(phases, markdown.seconds)


def _by_phase(numbers: Mapping[str, Number | None], show: Callable[[Number], str]) -> str:
    """Show the phases that there are, each by name."""
    shown = [f"{name} {show(number)}" for name, number in numbers.items() if number]
    return ", ".join(shown) or markdown.NOTHING

"""The report's tables of results: rows are targets or runs, numbers are percent."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipeline.reporting import markdown, results
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.costs import Cost, Costs
from pipeline.reporting.overlap import Overlap
from pipeline.reporting.results import Outcome, Result
from pipeline.retrieval.significance import Estimate

DAGGER = "†"
LABELS = {"itemknn": "itemKNN", "contentknn": "content kNN"}
PARTS = {"test": "test", "valid": "validation"}
TITLES = {results.HR: "HR@10", results.NDCG: "NDCG@10"}


def scores(outcomes: Sequence[Outcome], metric: str, oracle: Mapping[str, float]) -> str:
    """Set all runs side by side: a row a target and part, a column a run.

    Args:
        outcomes: groups of one content and user encoder, so with the same runs.
        metric: one of results.METRICS.
        oracle: the best possible HR@10 on test by target, where it is known.
    """
    names = [*outcomes[0].results]
    rows = []
    for outcome in outcomes:
        for part, title in PARTS.items():
            cells = [_cell(outcome.results[name], part, metric) for name in names]
            cells.append(markdown.percent(outcome.chance[metric]))
            if oracle:
                cells.append(_oracle(oracle, outcome, part, metric))
            rows.append([markdown.escape(outcome.group.target), title, *cells])
    header = ["target", TITLES[metric], *map(label, names), "random", *(["oracle"] * bool(oracle))]
    return markdown.table(header, rows, numbers_from=2)


def details(outcome: Outcome, costs: Costs, oracle: Mapping[str, float]) -> str:
    """Put the cost beside every number of a group: a row a run."""
    header = ["run"]
    header += [f"{title} {part}" for title in TITLES.values() for part in PARTS.values()]
    header += ["time", "with pre-training", "users/s", "peak memory", "trained parameters"]
    header += ["of all", "epochs", "trials", "device"]
    rows = []
    for name, result in outcome.results.items():
        cells = [_cell(result, part, metric) for metric in TITLES for part in PARTS]
        key = (outcome.group, name)
        rows.append([label(name), *cells, *_spent(costs.runs.get(key), costs.shares.get(key))])
    nothing = [markdown.NOTHING] * (len(header) - 5)
    chance = [markdown.percent(outcome.chance[metric]) for metric in TITLES for _ in PARTS]
    rows.append(["random", *chance, *nothing])
    if outcome.group.target in oracle:
        best = [_oracle(oracle, outcome, part, metric) for metric in TITLES for part in PARTS]
        rows.append(["oracle", *best, *nothing])
    return markdown.table(header, rows)


def contrasts(stated: Iterable[Contrast]) -> str:
    """List the stated differences with what may be said of each: a row a target and pair."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in stated:
        key = (
            *map(markdown.escape, one.group),
            f"{label(one.run)} {markdown.MINUS} {label(one.base)}",
        )
        mark = DAGGER if one.capped else ""
        sd = "" if one.sd is None else f" ± {markdown.percent(one.sd)}"
        difference = f"{interval(one.difference, markdown.signed)}{sd}{mark}"
        rows.setdefault(key, []).extend([difference, f"{one.p:.3g}", one.reading])
    header = ["target", "content", "user encoder", "difference"]
    for title in TITLES.values():
        header += [f"{title}, points", "p (Holm)", "reading"]
    return markdown.table(header, [[*key, *cells] for key, cells in rows.items()], numbers_from=4)


def overlap(shared: Mapping[str, Overlap]) -> str:
    """Say what each target has in common with the source."""
    rows = [
        [
            markdown.escape(target),
            _share(o.shared_items, o.items),
            _share(int(o.is_known.sum()), len(o.is_known)),
            _share(o.shared_users, o.users),
        ]
        for target, o in shared.items()
    ]
    header = ["target", "items with a text of the source", "held-out test items among them"]
    return markdown.table([*header, "users with an id of the source"], rows)


def slices(outcomes: Iterable[Outcome], shared: Mapping[str, Overlap]) -> str:
    """Divide test HR@10 by whether the source has the held-out item: a row a target and slice."""
    rows, names = [], []
    for outcome in outcomes:
        names = [*outcome.results]
        for title, users in divide(shared[outcome.group.target]).items():
            cells = [
                interval(sliced(one, users), markdown.percent) if users.any() else markdown.NOTHING
                for one in outcome.results.values()
            ]
            name = markdown.escape(outcome.group.target)
            rows.append([name, title, markdown.count(users.sum()), *cells])
    header = ["target", "held-out item", "users", *map(label, names)]
    return markdown.table(header, rows, numbers_from=2)


def divide(shared: Overlap) -> dict[str, np.ndarray]:
    """Divide a target's users, [U] bool, by whether the source has their held-out item."""
    return {"in the source": shared.is_known, "not in the source": ~shared.is_known}


def sliced(result: Result, users: np.ndarray) -> Estimate:
    """Estimate a run's test HR@10 on some users."""
    return results.bootstrap(result.values["test", results.HR].mean(axis=0)[users])


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
                markdown.escape(name),
                markdown.seconds(cost.seconds),
                rate,
                markdown.gigabytes(cost.peak_memory_bytes),
                markdown.count(cost.trained_parameters),
                markdown.escape(cost.device),
            ]
        )
    header = ["step", "time", "rate", "peak memory", "trained parameters", "device"]
    return markdown.table(header, rows)


def label(run: str) -> str:
    """Show a run's name."""
    return LABELS.get(run, markdown.escape(run))


def interval(estimate: Estimate, show: Callable[[float], str] = markdown.percent) -> str:
    """Show a mean with its interval."""
    return f"{show(estimate.mean)} [{show(estimate.low)}, {show(estimate.high)}]"


def _cell(result: Result, part: str, metric: str) -> str:
    sd = result.sd(part, metric)
    spread = "" if sd is None else f" ± {markdown.percent(sd)}"
    mark = DAGGER if result.capped else ""
    return f"{interval(result.estimates[part, metric])}{spread}{mark}"


def _oracle(oracle: Mapping[str, float], outcome: Outcome, part: str, metric: str) -> str:
    best = oracle.get(outcome.group.target)
    is_known = best is not None and (part, metric) == ("test", results.HR)
    return markdown.percent(best) if best is not None and is_known else markdown.NOTHING


def _spent(cost: Cost | None, share: float | None) -> list[str]:
    if cost is None:
        return [markdown.NOTHING] * 9
    whole = markdown.NOTHING if share is None else markdown.seconds(cost.seconds + share)
    return [
        markdown.seconds(cost.seconds),
        whole,
        markdown.count(cost.users_per_second or None),
        markdown.gigabytes(cost.peak_memory_bytes),
        markdown.count(cost.trained_parameters),
        markdown.count(cost.parameters),
        markdown.count(cost.epochs),
        markdown.count(cost.trials),
        markdown.escape(cost.device),
    ]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)" if whole else markdown.NOTHING

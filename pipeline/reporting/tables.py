"""The report's tables of results: rows are targets or runs, numbers are percent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.card import escape
from pipeline.reporting import cards, divisions, markdown, ninerec, results
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.overlap import Overlap
from pipeline.reporting.results import Outcome, Result, Spread
from pipeline.retrieval import significance
from pipeline.retrieval.significance import Estimate

DAGGER = "†"
LABELS = {"itemknn": "itemKNN", "contentknn": "content kNN"}
# How the readings of a difference are said, where not by their own names.
READINGS = {"not shown": "no difference shown", "capped": f"capped{DAGGER}, no conclusion"}
PARTS = {"test": "test", "valid": "validation"}


def scores(outcomes: Sequence[Outcome], metric: str, oracle: Mapping[str, float]) -> str:
    """Set all runs side by side: a row a target and part, a column a run.

    Args:
        outcomes: groups of one content and user encoder, so with the same runs.
        metric: one of the outcomes' metrics.
        oracle: the best possible HR@10 on test by target, where it is known.
    """
    names = [*outcomes[0].results]
    shows_oracle = bool(oracle) and metric == results.HR
    rows = []
    for outcome in outcomes:
        for part, shown in PARTS.items():
            cells = [cell(outcome.results[name], part, metric) for name in names]
            cells.append(markdown.percent(outcome.chance[metric]))
            if shows_oracle:
                cells.append(best_possible(oracle, outcome, part, metric))
            rows.append([escape(outcome.group.target), shown, *cells])
    more = ["oracle"] * shows_oracle
    header = ["target", title(metric), *map(label, names), "random", *more]
    return markdown.table(header, rows, numbers_from=2)


def contrasts(stated: Iterable[Contrast]) -> str:
    """List the stated differences with what may be said of each: a row a target and pair."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in stated:
        rows.setdefault((*map(escape, one.group), pair(one)), []).extend(judged(one))
    header = ["target", "content", "user encoder", "difference"]
    for metric in results.METRICS:
        header += [f"{title(metric)}, points", "p (Holm)", "reading"]
    return markdown.table(header, [[*key, *cells] for key, cells in rows.items()], numbers_from=4)


def pair(one: Contrast) -> str:
    """Name a difference by its runs, and by what else they differ in."""
    run, base = map(escape, one.places)
    return f"{run}{label(one.run)} {markdown.MINUS} {base}{label(one.base)}"


def judged(one: Contrast) -> list[str]:
    """Show a difference in cells: it with its spread between seeds and its mark, p, its reading."""
    sd = "" if one.sd is None else f" ± {markdown.percent(one.sd)}"
    shown = f"{interval(one.difference, markdown.signed)}{sd}{DAGGER * one.capped}"
    return [shown, markdown.probability(one.p), one.reading]


def overlap(shared: Mapping[str, Overlap]) -> str:
    """Say what each target has in common with the source."""
    rows = [
        [
            escape(target),
            _share(found.shared_items, found.items),
            _share(found.shared_texts, found.items),
            _share(found.shared_covers, found.items),
            _share(int(found.is_known.sum()), len(found.is_known)),
            _share(found.shared_users, found.users),
        ]
        for target, found in shared.items()
    ]
    header = ["target", "shared items", "by text", "by cover", "held-out test items among them"]
    return markdown.table([*header, "users with an id of the source"], rows)


def slices(
    outcomes: Iterable[Outcome],
    divide: Callable[[Outcome], Mapping[str, np.ndarray]],
    by: str,
) -> str:
    """Divide the users of test HR@10: a row a target and slice, a column a run.

    Args:
        outcomes: groups of one content and user encoder.
        divide: gives the slices of a group, [U] bool each.
        by: what they are divided by.
    """
    rows, names = [], []
    for outcome in outcomes:
        names = [*outcome.results]
        for shown, users in divide(outcome).items():
            cells = [
                f"{interval(divisions.estimate(one, users))}{marked(one)}"
                if users.any()
                else markdown.NOTHING
                for one in outcome.results.values()
            ]
            name = escape(outcome.group.target)
            rows.append([name, shown, markdown.count(users.sum()), *cells])
    return markdown.table(["target", by, "users", *map(label, names)], rows, numbers_from=2)


def catalogue(outcomes: Iterable[Outcome]) -> str:
    """Say what the lists show of the catalogue: a row a target and measure, a column a run."""
    rows, names = [], []
    for outcome in outcomes:
        names = [*outcome.results]
        for measure in outcome.results[names[0]].catalogue:
            show = markdown.percent if measure.startswith("coverage") else markdown.share
            cells = [spread(one.catalogue[measure], show) for one in outcome.results.values()]
            cells = [
                f"{cell}{marked(one)}"
                for cell, one in zip(cells, outcome.results.values(), strict=True)
            ]
            name = measure.capitalize() + ", %" * measure.startswith("coverage")
            rows.append([escape(outcome.group.target), name, *cells])
    return markdown.table(["target", "lists", *map(label, names)], rows, numbers_from=2)


def ranks(outcomes: Sequence[Outcome]) -> str:
    """Rank the runs by test HR@10: a row a target, then their mean; a column a run."""
    names = [*outcomes[0].results]
    found = standing(outcomes)
    means = [f"**{mean:.2f}**" for mean in found.mean(axis=0)]
    rows = [
        [escape(outcome.group.target), *(f"{rank:g}" for rank in of_target)]
        for outcome, of_target in zip(outcomes, found, strict=True)
    ]
    is_capped = [any(one.results[name].capped for one in outcomes) for name in names]
    shown = [label(name) + DAGGER * one for name, one in zip(names, is_capped, strict=True)]
    return markdown.table(["target", *shown], [*rows, ["**mean rank**", *means]])


def standing(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Rank the runs by test HR@10 on each target: [targets, runs] float64, 1 is best."""
    scores = [
        [one.estimates["test", results.HR].mean for one in outcome.results.values()]
        for outcome in outcomes
    ]
    return significance.ranks(np.array(scores))


def paper(outcomes: Iterable[Outcome], known: Mapping[str, Mapping[str, Any]]) -> str:
    """Set NineRec's published numbers beside ours; empty if no target is one of its data sets.

    Args:
        outcomes: groups of one content and user encoder.
        known: the data card by domain.
    """
    rows = []
    for outcome in outcomes:
        target = outcome.group.target
        published = ninerec.published(outcome.group, cards.names(known[target]))
        cells = []
        for run, number in published.items():
            ours = markdown.NOTHING
            if run in outcome.results:
                ours = cell(outcome.results[run], "test", results.HR)
            failed = " (failed training)" if number.failed else ""
            cells += [f"{markdown.percent(number.hr)}{failed}", ours]
        if cells:
            rows.append([escape(target), *cells])
    header = ["HR@10, test", "paper: ids", "id", "paper: from scratch", "end2end"]
    header += ["paper: pre-trained", label("end2end_transfer")]
    return markdown.table(header, rows) if rows else ""


def label(run: str) -> str:
    """Show a run's name."""
    return LABELS.get(run, escape(run))


def title(metric: str) -> str:
    """Show a metric's name."""
    return metric.upper()


def marked(result: Result) -> str:
    """Give the mark of a run from which no conclusion is drawn."""
    return DAGGER if result.capped else ""


def interval(estimate: Estimate, show: Callable[[float], str] = markdown.percent) -> str:
    """Show a mean with its interval."""
    return f"{show(estimate.mean)} [{show(estimate.low)}, {show(estimate.high)}]"


def cell(result: Result, part: str, metric: str) -> str:
    """Show a run's mean with its interval, its spread between seeds and its mark."""
    sd = result.sds[part, metric]
    spread = "" if sd is None else f" ± {markdown.percent(sd)}"
    return f"{interval(result.estimates[part, metric])}{spread}{marked(result)}"


def spread(number: Spread, show: Callable[[float], str]) -> str:
    """Show a number with its spread between seeds."""
    return show(number.mean) if number.sd is None else f"{show(number.mean)} ± {show(number.sd)}"


def best_possible(oracle: Mapping[str, float], outcome: Outcome, part: str, metric: str) -> str:
    """Show the oracle's number where it is known: HR@10 on test."""
    best = oracle.get(outcome.group.target)
    is_known = best is not None and (part, metric) == ("test", results.HR)
    return markdown.percent(best) if best is not None and is_known else markdown.NOTHING


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)" if whole else markdown.NOTHING

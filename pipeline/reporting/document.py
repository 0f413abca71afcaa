"""The report as one Markdown text, from what was read."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.reporting import cards, markdown, ninerec, results, tables
from pipeline.reporting.contrasts import ALPHA
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.results import Outcome


def write(e: Evidence, figures: Mapping[str, list[str]]) -> str:
    """Write the report.

    Args:
        e: what was found.
        figures: by content-user encoder, the paths of its pictures beside the report.
    """
    parts = ["# Frozen or end to end", *_summary(e), *_reading(e)]
    for (content, user), outcomes in e.series().items():
        parts.append(f"## Content {markdown.escape(content)}, user encoder {markdown.escape(user)}")
        parts += [tables.scores(outcomes, metric, e.oracle) for metric in results.METRICS]
        parts += [f"![{path.rpartition('/')[2]}]({path})" for path in figures[f"{content}-{user}"]]
        parts += _paper(outcomes, e.cards)
        for outcome in outcomes:
            parts.append(f"### {markdown.escape(outcome.group.target)}: results and their cost")
            parts.append(tables.details(outcome, e.costs, e.oracle))
            parts.append(_counts(outcome))
        parts += _slices(outcomes, e)
    if e.contrasts:
        parts += ["## Differences", _about_contrasts(e), tables.contrasts(e.contrasts)]
    if e.overlaps:
        title = f"## What the targets share with {markdown.escape(e.sources[0])}"
        parts += [title, tables.overlap(e.overlaps)]
    parts += ["## Data", cards.table(e.cards), *_warnings(e.cards)]
    if e.costs.others:
        parts += ["## What the runs stand on", tables.foundations(e.costs.others)]
    return "\n\n".join(parts) + "\n"


def covers(e: Evidence) -> str:
    """Say what the intervals cover."""
    trainings = "one training" if e.seeds == 1 else f"the mean of {e.seeds} trainings"
    return f"over users, {trainings}{', one pre-training' if e.sources else ''}"


def _summary(e: Evidence) -> list[str]:
    """Say in a line a pair which differences in HR@10 may be claimed."""
    lines: dict[str, dict[str, list[str]]] = {}
    for one in e.contrasts:
        if one.metric == results.HR:
            pair = f"{tables.label(one.run)} {markdown.MINUS} {tables.label(one.base)}"
            where = markdown.escape(one.group.target)
            if len(e.series()) > 1:
                where += f" ({markdown.escape(one.group.content)}, {one.group.user})"
            points = f"{where} {markdown.signed(one.difference.mean)}"
            lines.setdefault(pair, {}).setdefault(one.reading, []).append(points)
    titles = {"not shown": "no difference shown", "capped": "capped, no conclusion"}
    rows = [
        f"- **{pair}**: "
        + "; ".join(
            f"{titles.get(reading, reading)}: {', '.join(at)}" for reading, at in by.items()
        )
        for pair, by in lines.items()
    ]
    heading = "Test HR@10, differences in points of percent:"
    return [heading, "\n".join(rows)] if rows else []


def _reading(e: Evidence) -> list[str]:
    lines = [
        f"Numbers are percent, with 95 % bootstrap intervals in brackets: {covers(e)}. A user's "
        "last item is the test, the one before validation; all candidates are ranked, ties count "
        "at their expected value. A run's epoch and point of the search are chosen on validation "
        "alone.",
        "`random` is K / candidates. Popularity, itemKNN and content kNN train nothing: a run that "
        "trained on the target and stays below popularity has a defect, and one below the others "
        "has yet to earn its cost.",
    ]
    if e.seeds > 1:
        lines.append("± is the standard deviation between seeds.")
    if any(result.capped for outcome in e.outcomes for result in outcome.runs):
        lines.append(
            f"{tables.DAGGER} The run, or the source's model it starts from, was still getting "
            "better when it reached its cap of epochs or time: no conclusion is drawn from it."
        )
    if e.oracle:
        lines.append(
            "`oracle` is the best that can be expected by whoever knows how the data arose."
        )
    return lines


def _about_contrasts(e: Evidence) -> str:
    """Say how the differences were judged."""
    seeds = ", and if it exceeds the standard deviation between seeds" if e.seeds > 1 else ""
    return (
        f"Test items, the same users in both runs; 95 % paired bootstrap intervals, {covers(e)}. p "
        f"is corrected by Holm's method for all {len(e.contrasts)} differences of this table. A "
        f"difference is called higher or lower if p < {ALPHA} and its interval excludes 0{seeds}."
    )


def _counts(outcome: Outcome) -> str:
    counts = outcome.counts
    text = f"{counts['users']:,} users, {counts['candidates']:,} candidates."
    lost = [
        f"{counts[f'unreachable_{part}']:,} in {title}"
        for part, title in tables.PARTS.items()
        if counts[f"unreachable_{part}"]
    ]
    if lost:
        text += (
            f" Held-out items that stand in their user's masked history and so count as misses: "
            f"{', '.join(lost)}."
        )
    return text


def _paper(outcomes: Iterable[Outcome], known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Set NineRec's published numbers beside ours, for targets that are its data sets."""
    rows = []
    for outcome in outcomes:
        target = outcome.group.target
        published = ninerec.published(outcome.group, cards.names(known[target]))
        if published:
            cells = []
            for run, value in published.items():
                ours = markdown.NOTHING
                if run in outcome.results:
                    ours = tables.interval(outcome.results[run].estimates["test", results.HR])
                cells += [markdown.percent(value), ours]
            rows.append([markdown.escape(target), *cells])
    if not rows:
        return []
    header = ["HR@10, test", "paper: ids", "id", "paper: from scratch", "end2end"]
    header += ["paper: pre-trained", "end2end\\_transfer"]
    about = (
        "NineRec's published numbers (arXiv 2309.07705, results table of westlake-repl/NineRec; "
        "BERT-base, Swin-B; one training, their source and hyper-parameters) beside ours:"
    )
    return [about, markdown.table(header, rows)]


def _slices(outcomes: list[Outcome], e: Evidence) -> list[str]:
    if not e.overlaps:
        return []
    source = markdown.escape(e.sources[0])
    title = f"### Test HR@10 by whether {source} has the held-out item (an equal text)"
    return [title, tables.slices(outcomes, e.overlaps)]


def _warnings(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"- {markdown.escape(domain)}: {markdown.escape(warning)}"
        for domain, card in known.items()
        for warning in card.get("warnings", [])
    ]
    return ["Warnings from preparation:", "\n".join(lines)] if lines else []

"""The report as one Markdown text, from what was read."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.data.card import escape
from pipeline.reporting import captions, cards, cost_tables, divisions, results, setting, tables
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.gallery import Picture
from pipeline.reporting.results import Outcome


def write(
    found: Evidence, pictures: Mapping[str, Sequence[Picture]], encoders: Mapping[str, Any]
) -> str:
    """Write the report.

    Args:
        found: what was found.
        pictures: by content-user encoder, its figures.
        encoders: by modality, a name or a specification.
    """
    parts = ["# Frozen or end to end", setting.line(found, encoders), *captions.summary(found)]
    parts += [*captions.reading(found), setting.runs(found)]
    for (content, user), outcomes in found.series().items():
        parts.append(f"## Content {escape(content)}, user encoder {escape(user)}")
        parts += _scores(outcomes, found)
        parts += _ranks(outcomes)
        parts += [_picture(one) for one in pictures[f"{content}-{user}"]]
        parts += _paper(outcomes, found)
        parts += _details(outcomes, found)
        parts += _slices(outcomes, found)
        parts += ["### What the lists show of the catalogue", captions.CATALOGUE]
        parts.append(tables.catalogue(outcomes))
    parts += _differences(found)
    if found.overlaps:
        title = f"## What the targets share with {escape(found.sources[0])}"
        parts += [title, captions.OVERLAP, tables.overlap(found.overlaps)]
    parts += ["## Data", captions.DATA, cards.table(found.cards), *_warnings(found.cards)]
    if found.costs.others:
        table = cost_tables.foundations(found.costs.others)
        parts += ["## What the runs stand on", captions.FOUNDATIONS, table]
    return "\n\n".join(parts) + "\n"


def _scores(outcomes: Sequence[Outcome], found: Evidence) -> list[str]:
    made = {name: tables.scores(outcomes, name, found.oracle) for name in outcomes[0].metrics}
    parts = [captions.SCORES, *(made.pop(metric) for metric in results.METRICS)]
    return [*parts, captions.CUTOFFS, *made.values()] if made else parts


def _ranks(outcomes: Sequence[Outcome]) -> list[str]:
    """Rank the runs where there are several targets."""
    return [captions.RANKS, tables.ranks(outcomes)] if len(outcomes) > 1 else []


def _picture(one: Picture) -> str:
    about = captions.FIGURES[one.kind]
    return f"![{about.alt}]({one.path})\n\n{about.caption}"


def _paper(outcomes: Sequence[Outcome], found: Evidence) -> list[str]:
    table = tables.paper(outcomes, found.cards)
    return [captions.PAPER, table] if table else []


def _details(outcomes: Sequence[Outcome], found: Evidence) -> list[str]:
    parts = ["### Results and their cost", captions.COST]
    for outcome in outcomes:
        parts.append(f"#### {escape(outcome.group.target)}")
        parts.append(cost_tables.details(outcome, found.costs, found.oracle))
        parts.append(captions.counts(outcome))
    work = cost_tables.work(outcomes, found.costs)
    return [*parts, "### What a step, an epoch and the artifacts take", captions.WORK, work]


def _slices(outcomes: Sequence[Outcome], found: Evidence) -> list[str]:
    parts = []
    if found.overlaps:
        by_source = partial(divisions.by_source, shared=found.overlaps)
        parts += [
            f"### Test HR@10 by whether {escape(found.sources[0])} has the held-out item",
            captions.SLICES,
            tables.slices(outcomes, by_source, "held-out item"),
        ]
    return [
        *parts,
        "### Test HR@10 by how often the held-out item was seen in training",
        captions.OCCURRENCES,
        tables.slices(outcomes, divisions.by_occurrences, "in train parts"),
        "### Test HR@10 by the length of the history",
        captions.HISTORIES,
        tables.slices(outcomes, divisions.by_history, "items before"),
    ]


def _differences(found: Evidence) -> list[str]:
    parts = captions.unstated(found)
    if found.contrasts:
        parts = [captions.contrasts(found), tables.contrasts(found.contrasts), *parts]
    return ["## Differences", *parts] if parts else []


def _warnings(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"- {escape(domain)}: {escape(warning)}"
        for domain, card in known.items()
        for warning in card.get("warnings", [])
    ]
    return ["Warnings from preparation:", "\n".join(lines)] if lines else []

"""Which figures a report has."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from pipeline.reporting import figures
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.results import Group


def draw(
    e: Evidence, curves: Mapping[Group, Mapping[str, pl.DataFrame]], out: Path
) -> dict[str, list[str]]:
    """Draw all figures into `out`/figures.

    Returns:
        Their paths relative to `out`, by <content>-<user encoder>.
    """
    drawn: dict[str, list[str]] = {}
    for (content, user), outcomes in e.series().items():
        name = f"{content}-{user}"
        here = {one.group for one in outcomes}
        paths = drawn.setdefault(name, [])

        def path(what: str, name: str = name, paths: list[str] = paths) -> Path:
            paths.append(f"figures/{what}-{name}.png")
            return out / paths[-1]

        figures.scores(outcomes, e.oracle, path("scores"))
        stated = [one for one in e.contrasts if one.group in here]
        if stated:
            figures.differences(stated, path("differences"))
        if any(key[0] in here for key in e.costs.runs):
            figures.cost(outcomes, e.costs, path("cost"))
        if e.overlaps:
            figures.slices(outcomes, e.overlaps, path("slices"))
        own = {group: found for group, found in curves.items() if group in here and found}
        if own:
            figures.curves(own, path("curves"))
    return drawn

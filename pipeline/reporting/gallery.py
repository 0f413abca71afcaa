"""Which figures a report has, and where they lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from pipeline.data.progress import Progress
from pipeline.reporting import divisions, figures, panels
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.plots import Curve
from pipeline.reporting.results import Group


class Picture(NamedTuple):
    """One figure of the report."""

    kind: str  # one of captions.FIGURES
    path: str  # beside the report


def draw(
    found: Evidence, curves: Mapping[Group, Mapping[str, Curve]], out: Path
) -> dict[str, list[Picture]]:
    """Draw all figures into `out`/figures and list them by <content>-<user encoder>."""
    drawn: dict[str, list[Picture]] = {}
    progress = Progress("report, figures of user encoders", len(found.series()))
    for content, user in found.series():
        name = f"{content}-{user}"
        for kind, figure in series(found, curves, content, user).items():
            picture = Picture(kind, f"figures/{kind}-{name}.png")
            panels.save(figure, out / picture.path)
            drawn.setdefault(name, []).append(picture)
        progress.advance(1)
    return drawn


def series(
    found: Evidence, curves: Mapping[Group, Mapping[str, Curve]], content: str, user: str
) -> dict[str, Figure]:
    """Make the figures of one content and user encoder, by kind."""
    outcomes = found.series()[content, user]
    here = {one.group for one in outcomes}
    made = {"scores": figures.scores(outcomes, found.oracle)}
    stated = [one for one in found.contrasts if one.group in here]
    if stated:
        made["differences"] = figures.differences(stated)
    if any(group in here for group, _ in found.costs.runs):
        made["cost"] = figures.cost(outcomes, found.costs)
    if any(divisions.is_divided(one, found.overlaps) for one in outcomes if found.overlaps):
        made["slices"] = figures.slices(outcomes, found.overlaps)
    own = {group: runs for group, runs in curves.items() if group in here and runs}
    if own:
        made["curves"] = figures.curves(outcomes, own)
    return made

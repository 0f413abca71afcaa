"""The figure of the break-even curve: the runs over the number of users, below their difference."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.reporting import breakeven, looks, panels, results
from pipeline.reporting.breakeven import DIFFERENCE, RUNS, TIMES, Point
from pipeline.reporting.looks import INK

MARKERS = {"higher": "^", "lower": "v"}  # of looks.READINGS, where higher is up
LINE = 3  # points that a line may join: of two it would promise what lies between
APART, MARGIN = 0.006, 0.1  # shares of the x axis: between two runs' marks, beside them all
TICK, WIDTHS = 0.85, (6.2, 14.0)  # inches: of a tick's label; the least and most of the figure


def draw(points: Sequence[Point]) -> Figure:
    """Draw test HR@10 of the runs over the users, and below what end to end adds and takes."""
    figure = Figure(figsize=(_width(points), 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for place, run in enumerate(RUNS):
        _run(upper, points, run, _span(points) ** (APART * (place - 1)))
    _difference(lower, points)
    seeds = len(points[0].seeds)
    title = f"{', '.join(points[0].outcome.group)}, {seeds} seed{'s' * (seeds > 1)}"
    upper.set_title(title, fontsize=11, loc="left", parse_math=False)
    upper.set_ylabel("test HR@10, %")
    panels.from_zero(upper)
    lower.set_ylabel(f"{DIFFERENCE}, points")
    _users(lower, points)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#eeeeee")
    panels.finish(figure, _legend(points), columns=4)
    return figure


def _run(axes: Axes, points: Sequence[Point], run: str, apart: float) -> None:
    """Draw a run with its intervals, a little beside those of the others."""
    style = looks.STYLES[run]
    at = [apart * point.users for point in points]
    found = [point.outcome.results[run] for point in points]
    means = [100 * one.estimates["test", results.HR].mean for one in found]
    axes.plot(
        at, means, linestyle=style.line if len(points) >= LINE else "", color=style.colour,
        linewidth=1.5, marker=style.marker,
    )  # fmt: skip
    for x, mean, one in zip(at, means, found, strict=True):
        estimate = one.estimates["test", results.HR]
        axes.plot([x, x], [100 * estimate.low, 100 * estimate.high], color=style.colour)
        if one.capped:
            looks.dagger(axes, x, mean)


def _difference(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the difference with its intervals around zero; the look says what is claimed."""
    axes.axhline(0, color=INK, linewidth=0.8)
    for point in points:
        one = point.differences[results.HR]
        found, claim = one.difference, looks.READINGS[one.reading]
        ends = [100 * found.low, 100 * found.high]
        axes.plot([point.users] * 2, ends, claim.line, color=claim.colour, linewidth=2)
        axes.plot(
            point.users, 100 * found.mean, _marker(one.reading), color=claim.colour,
            markerfacecolor=looks.face(claim), markersize=7,
        )  # fmt: skip
        if one.capped:
            looks.dagger(axes, point.users, 100 * found.mean)


def _users(axes: Axes, points: Sequence[Point]) -> None:
    """Make the x axis one of users, and say at each number what end to end took."""
    labels = [
        f"{point.users:,}\n{breakeven.time(point, 'end2end')}\n{breakeven.ratio(point)} {TIMES}"
        for point in points
    ]
    beside = _span(points) ** MARGIN
    axes.set_xscale("log")
    axes.set_xlim(points[0].users / beside, points[-1].users * beside)
    axes.set_xticks([point.users for point in points], labels)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("users; below: end2end's time, all trials and seeds, and over frozen's")


def _span(points: Sequence[Point]) -> float:
    """Give the most users over the least; 2 where that is less, so that there is an axis."""
    return max(2.0, points[-1].users / points[0].users)


def _width(points: Sequence[Point]) -> float:
    """Give the width in inches at which the labels of the ticks stand apart."""
    apart = np.diff(np.log([point.users for point in points])) / np.log(_span(points))
    needed = TICK / max(apart.min(initial=1), TICK / WIDTHS[1])
    return float(np.clip((1 + 2 * MARGIN) * needed + 1, *WIDTHS))  # 1: for the y axis


def _legend(points: Sequence[Point]) -> list[Line2D]:
    marked = looks.capped(point.outcome for point in points) & {*RUNS}
    is_line = len(points) >= LINE
    entries = [looks.handle(run, is_line, is_capped=run in marked) for run in RUNS]
    said = {point.differences[results.HR].reading for point in points}
    entries += [looks.claim_handle(one, _marker(one)) for one in looks.READINGS if one in said]
    return [*entries, looks.note()] if marked else entries


def _marker(reading: str) -> str:
    return MARKERS.get(reading, looks.READINGS[reading].marker)

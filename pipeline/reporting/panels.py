"""A figure as panels side by side, one a target, under one legend."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.reporting import markdown

Panel = TypeVar("Panel")

TIMES: dict[float, str] = {
    **{n: f"{n:g} s" for n in (0.1, 0.3, 1, 3, 10, 30)},
    **{60 * n: f"{n} min" for n in (1, 3, 10, 30)},
    **{3600 * n: f"{n} h" for n in (1, 3, 10, 30, 100)},
}


def grid(
    panels: Mapping[str, Panel],
    draw: Callable[[Axes, Panel], None],
    height: float,
    label: str,
    legend: Sequence[Artist],
) -> Figure:
    """Draw a panel a target, at most three in a row.

    Args:
        panels: what is drawn, by target.
        draw: what draws it.
        height: of one panel, in inches.
        label: of every x axis.
        legend: its entries.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    entries = max(1, min(2 * columns, 5, len(legend)))  # in a row
    below = 0.3 + 0.2 * -(-len(legend) // entries)
    figure = Figure(figsize=(1.6 + 3.6 * columns, height * rows + below), layout="constrained")
    cells: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    for axes in cells.flat[len(panels) :]:
        axes.remove()
    for axes, (target, content) in zip(cells.flat, panels.items(), strict=False):
        draw(axes, content)
        axes.set_title(target, fontsize=11, loc="left", parse_math=False)
        axes.set_xlabel(label)
    finish(figure, legend, entries)
    return figure


def finish(figure: Figure, legend: Sequence[Artist], columns: int) -> None:
    """Give a figure the style of all figures, and put its legend below it."""
    for axes in figure.axes:
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=legend, loc="outside lower center", ncols=columns, frameon=False,
        fontsize=9, handlelength=2.6, columnspacing=1.2,
    )  # fmt: skip


def from_zero(axes: Axes) -> None:
    """Begin the y axis at zero and end it above all that is drawn, with its marks whole."""
    axes.set_ylim(0, 1.1 * max(axes.dataLim.y1, 0.1))


def times(axes: Axes) -> None:
    """Make the x axis one of times, in the units people use; thin the ticks of a long one."""
    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    ticks = [tick for tick in TIMES if low <= tick <= high]
    labels = {tick: TIMES[tick] for tick in ticks[:: 1 + len(ticks) // 6]}
    if len(labels) < 2:  # noqa: PLR2004  # an axis needs two to be read; then its ends have them
        ends = {markdown.seconds(end): end for end in axes.dataLim.intervalx}
        labels = {end: text for text, end in ends.items()}
    axes.set_xticks([*labels], [*labels.values()])
    axes.set_xticks([], minor=True)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})

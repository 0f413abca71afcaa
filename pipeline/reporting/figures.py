"""The report's figures: one picture a content and user encoder, one panel a target."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.reporting import markdown, results, tables
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.costs import Costs
from pipeline.reporting.overlap import Overlap
from pipeline.reporting.results import Group, Outcome
from pipeline.retrieval import evaluation
from pipeline.retrieval.significance import Estimate

# Colours that stay apart for colour-blind eyes (Okabe and Ito); line and marker say it again.
GREY, BLUE, SKY, GREEN, RED = "#6e6e6e", "#0072B2", "#56B4E9", "#009E73", "#D55E00"
LIGHT = "#cccccc"
INK = "#222222"


Panel = TypeVar("Panel")


class Style(NamedTuple):
    """How a run is drawn: the colour is its tower, line, hatch and marker are its start."""

    colour: str
    line: Literal["-", "--", "-.", ":", ""] = "-"
    marker: str = "o"
    hatch: str = ""
    is_filled: bool = True


STYLES = {
    "id": Style(GREY, ":", "X"),
    "frozen": Style(BLUE),
    "frozen_paper": Style(SKY),
    "end2end": Style(RED),
    "frozen_transfer": Style(BLUE, "--", "^", "///"),
    "tuned_transfer": Style(GREEN, "--", "^", "///"),
    "end2end_transfer": Style(RED, "--", "^", "///"),
    "frozen_zeroshot": Style(BLUE, "-.", "s", "", is_filled=False),
    "tuned_zeroshot": Style(GREEN, "-.", "s", "", is_filled=False),
}
SANITY = Style(LIGHT)
TIMES: dict[float, str] = {
    **{n: f"{n:g} s" for n in (0.1, 0.3, 1, 3, 10, 30)},
    **{60 * n: f"{n} min" for n in (1, 3, 10, 30)},
    **{3600 * n: f"{n} h" for n in (1, 3, 10, 30, 100)},
}
READINGS = {"higher": GREEN, "lower": RED, "not shown": GREY, "capped": LIGHT}


def scores(outcomes: Sequence[Outcome], oracle: Mapping[str, float], path: Path) -> None:
    """Draw test HR@10 of every run with its interval, and validation as a tick."""
    names = [*outcomes[0].results]

    def draw(axes: Axes, outcome: Outcome) -> None:
        for row, name in enumerate(names):
            result, style = outcome.results[name], STYLES.get(name, SANITY)
            found = result.estimates["test", results.HR]
            _bar(axes, row, found, style)
            valid = 100 * result.estimates["valid", results.HR].mean
            axes.plot(valid, row, "|", color=INK, markersize=9, markeredgewidth=1.4)
        _line(axes, outcome.chance[results.HR], "random", ":")
        if outcome.group.target in oracle:
            _line(axes, oracle[outcome.group.target], "oracle", "-")
        capped = outcome.results
        ticks = [_plain(name) + tables.DAGGER * capped[name].capped for name in names]
        axes.set_yticks(range(len(names)), ticks)
        axes.invert_yaxis()
        axes.set_xlim(left=0)

    figure = _panels(outcomes, draw, 0.3 * len(names) + 1.2, "HR@10, %")
    legend = [
        Line2D([], [], color=INK, linewidth=1.2, label="test, 95 % over users"),
        Line2D([], [], color=INK, marker="|", linestyle="", markersize=9, label="validation"),
        Line2D([], [], color=INK, linestyle=":", label="random"),
    ]
    if oracle:
        legend.append(Line2D([], [], color=INK, label="oracle"))
    _save(figure, legend, path)


def differences(stated: Sequence[Contrast], path: Path) -> None:
    """Draw the stated differences in HR@10 with their intervals; colour says what may be said."""
    chosen = [one for one in stated if one.metric == results.HR]
    panels: dict[Group, list[Contrast]] = {}
    for one in chosen:
        panels.setdefault(one.group, []).append(one)

    def draw(axes: Axes, rows: list[Contrast]) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, one in enumerate(rows):
            low, mean, high = (
                100 * value
                for value in (one.difference.low, one.difference.mean, one.difference.high)
            )
            colour = READINGS[one.reading]
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            is_claimed = one.reading in ("higher", "lower")
            face = colour if is_claimed else "white"
            axes.plot(mean, row, "o", color=colour, markerfacecolor=face, markersize=7)
        labels = [f"{_plain(one.run)}\n{markdown.MINUS} {_plain(one.base)}" for one in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)

    figure = _grid(
        {group.target: rows for group, rows in panels.items()},
        draw,
        0.5 * max(map(len, panels.values())) + 1.2,
        "difference in test HR@10, points",
    )
    legend = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=reading)
        for reading, colour in READINGS.items()
        if any(one.reading == reading for one in chosen)
    ]
    for handle in legend:
        if handle.get_label() not in ("higher", "lower"):
            handle.set_markerfacecolor("white")
    _save(figure, legend, path)


def cost(outcomes: Sequence[Outcome], costs: Costs, path: Path) -> None:
    """Draw test HR@10 over the time it took; a line leads to the time with pre-training."""

    def draw(axes: Axes, outcome: Outcome) -> None:
        for result in outcome.runs:
            key = (outcome.group, result.run)
            if key not in costs.runs:
                continue
            style, value = STYLES[result.run], 100 * result.estimates["test", results.HR].mean
            own = costs.runs[key].seconds
            whole = own + costs.shares.get(key, 0.0)
            face = style.colour if style.is_filled else "white"
            if whole > own > 0:
                axes.plot([own, whole], [value, value], color=style.colour, linewidth=1)
            for seconds, size in ((own, 8), (whole, 5)):
                if seconds > 0:
                    axes.plot(
                        seconds, value, style.marker, color=style.colour,
                        markerfacecolor=face, markersize=size,
                    )  # fmt: skip
        _times(axes)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_ylabel("HR@10, %")

    figure = _panels(outcomes, draw, 3.2, "time; the small marker includes pre-training")
    _save(figure, _legend([result.run for result in outcomes[0].runs], is_line=False), path)


def curves(found: Mapping[Group, Mapping[str, pl.DataFrame]], path: Path) -> None:
    """Draw validation HR@10 over the epochs of every run; a dot marks the best epoch.

    Where an encoder joined, only what followed is drawn: its probe is the frozen run's own curve.
    """

    def draw(axes: Axes, runs: Mapping[str, pl.DataFrame]) -> None:
        for run, curve in runs.items():
            style, rows = STYLES[run], curve.drop_nulls(results.HR)
            if "joint" in rows["phase"]:
                rows = rows.filter(pl.col("phase") == "joint")
            epochs, values = rows["epoch"].to_numpy(), 100 * rows[results.HR].to_numpy()
            axes.plot(epochs, values, style.line, color=style.colour, linewidth=1.5)
            best = int(values.argmax())
            axes.plot(epochs[best], values[best], "o", color=style.colour, markersize=5)
        axes.set_ylabel("validation HR@10, %")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#eeeeee")

    figure = _grid({group.target: runs for group, runs in found.items()}, draw, 3.2, "epoch")
    listed = [run for run in STYLES if any(run in runs for runs in found.values())]
    _save(figure, _legend(listed, is_line=True), path)


def slices(outcomes: Sequence[Outcome], shared: Mapping[str, Overlap], path: Path) -> None:
    """Draw test HR@10 apart for held-out items that the source has and has not."""
    names = [*outcomes[0].results]
    looks = {"in the source": (BLUE, -0.15, "o"), "not in the source": (RED, 0.15, "s")}

    def draw(axes: Axes, outcome: Outcome) -> None:
        for title, users in tables.divide(shared[outcome.group.target]).items():
            colour, shift, marker = looks[title]
            for row, name in enumerate(names):
                if users.any():
                    found = tables.sliced(outcome.results[name], users)
                    rows = [row + shift] * 2
                    axes.plot([100 * found.low, 100 * found.high], rows, color=colour)
                    axes.plot(100 * found.mean, row + shift, marker, color=colour, markersize=5)
        axes.set_yticks(range(len(names)), [_plain(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_xlim(left=0)

    figure = _panels(outcomes, draw, 0.36 * len(names) + 1.2, "HR@10, %")
    legend = [
        Line2D([], [], color=colour, marker=marker, label=f"held-out item {title}")
        for title, (colour, _, marker) in looks.items()
    ]
    _save(figure, legend, path)


def _panels(
    outcomes: Sequence[Outcome],
    draw: Callable[[Axes, Outcome], None],
    height: float,
    label: str,
) -> Figure:
    return _grid({outcome.group.target: outcome for outcome in outcomes}, draw, height, label)


def _grid(
    panels: Mapping[str, Panel], draw: Callable[[Axes, Panel], None], height: float, label: str
) -> Figure:
    """Draw a panel a target, at most three in a row; `height` is one panel's, in inches."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.6 + 3.6 * columns, height * rows + 0.5), layout="constrained")
    grid: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for number, (target, content) in enumerate(panels.items()):
        axes = grid.flat[number]
        draw(axes, content)
        axes.set_title(target, fontsize=11, loc="left", parse_math=False)
        axes.set_xlabel(label)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bar(axes: Axes, row: int, found: Estimate, style: Style) -> None:
    face = style.colour if style.is_filled else "white"
    edge = style.colour if not style.hatch else "white"
    axes.barh(row, 100 * found.mean, 0.72, color=face, edgecolor=edge, hatch=style.hatch)
    axes.plot([100 * found.low, 100 * found.high], [row, row], color=INK, linewidth=1.2)


def _times(axes: Axes) -> None:
    """Make the x axis one of times, in the units people use; thin the ticks of a long one."""
    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    ticks = [tick for tick in TIMES if low <= tick <= high]
    ticks = ticks[:: 1 + len(ticks) // 6]
    axes.set_xticks(ticks, [TIMES[tick] for tick in ticks])
    axes.set_xticks([], minor=True)


def _line(axes: Axes, share: float, label: str, style: str) -> None:
    axes.axvline(100 * share, color=INK, linestyle=style, linewidth=1, label=label)


def _legend(runs: Sequence[str], is_line: bool) -> list[Line2D]:
    handles = []
    for run in runs:
        style = STYLES[run]
        handles.append(
            Line2D(
                [],
                [],
                color=style.colour,
                linestyle=style.line if is_line else "",
                marker="" if is_line else style.marker,
                markerfacecolor=style.colour if style.is_filled else "white",
                label=_plain(run),
            )
        )
    return handles


def _save(figure: Figure, legend: list[Line2D], path: Path) -> None:
    figure.legend(
        handles=legend, loc="outside lower center", ncols=min(5, len(legend)), frameon=False,
        fontsize=9,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _plain(run: str) -> str:
    """Show a run's name in a figure, where nothing is markup."""
    return tables.LABELS.get(run, run) if run in evaluation.SANITY else run

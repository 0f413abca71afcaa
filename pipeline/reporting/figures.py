"""The report's figures: one picture a content and user encoder, one panel a target."""

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.reporting import divisions, looks, markdown, panels, results
from pipeline.reporting.contrasts import Contrast
from pipeline.reporting.costs import Costs
from pipeline.reporting.looks import INK
from pipeline.reporting.overlap import Overlap
from pipeline.reporting.plots import Curve
from pipeline.reporting.results import Group, Outcome
from pipeline.retrieval.significance import Estimate

MARKS = 8  # markers along a curve, so that lines are told apart where they cross


def scores(outcomes: Sequence[Outcome], oracle: Mapping[str, float]) -> Figure:
    """Draw test HR@10 of every run with its interval, and validation as a diamond."""
    names = [*outcomes[0].results]

    def draw(axes: Axes, outcome: Outcome) -> None:
        for row, run in enumerate(names):
            result, style = outcome.results[run], looks.STYLES.get(run, looks.SANITY)
            _bar(axes, row, result.estimates["test", results.HR], style)
            valid = 100 * result.estimates["valid", results.HR].mean
            axes.plot(valid, row, "d", color=INK, markerfacecolor="white", markersize=5)
        _line(axes, outcome.chance[results.HR], ":")
        if outcome.group.target in oracle:
            _line(axes, oracle[outcome.group.target], "-")
        axes.set_yticks(range(len(names)), _ticks(outcome))
        axes.invert_yaxis()
        axes.set_xlim(left=0)

    legend: list[Artist] = [
        Line2D([], [], color=INK, linewidth=1.2, label="test, 95 % over users"),
        Line2D([], [], color=INK, marker="d", linestyle="", markerfacecolor="white", markersize=5,
               label="validation"),
        Line2D([], [], color=INK, linestyle=":", label="random"),
    ]  # fmt: skip
    if oracle:
        legend.append(Line2D([], [], color=INK, label="oracle (upright line)"))
    legend += [*looks.meanings(names), *_notes(outcomes)]
    return panels.grid(_by_target(outcomes), draw, 0.3 * len(names) + 1.2, "HR@10, %", legend)


def differences(stated: Sequence[Contrast]) -> Figure:
    """Draw the stated differences in HR@10 with their intervals; the look says what is claimed."""
    chosen = [one for one in stated if one.metric == results.HR]
    reach = [100 * end for one in chosen for end in (one.difference.low, one.difference.high)]
    beside = 0.05 * (max(0, *reach) - min(0, *reach)) or 1.0  # at least, if all are 0
    by_target: dict[str, list[Contrast]] = {}
    for one in chosen:
        by_target.setdefault(one.group.target, []).append(one)

    def draw(axes: Axes, rows: list[Contrast]) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, one in enumerate(rows):
            found, claim = one.difference, looks.READINGS[one.reading]
            ends = [100 * found.low, 100 * found.high]
            axes.plot(ends, [row, row], claim.line, color=claim.colour, linewidth=2)
            axes.plot(
                100 * found.mean, row, claim.marker, color=claim.colour,
                markerfacecolor=looks.face(claim), markersize=7,
            )  # fmt: skip
        labels = [
            f"{run}{looks.name(one.run)}\n{markdown.MINUS} {base}{looks.name(one.base, one.capped)}"
            for one in rows
            for run, base in [one.places]
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(min(0, *reach) - beside, max(0, *reach) + beside)  # alike on all targets

    legend = [
        looks.claim_handle(reading, claim.marker)
        for reading, claim in looks.READINGS.items()
        if any(one.reading == reading for one in chosen)
    ]
    height = 0.5 * max(map(len, by_target.values())) + 1.2
    return panels.grid(by_target, draw, height, "difference in test HR@10, points", legend)


def cost(outcomes: Sequence[Outcome], costs: Costs) -> Figure:
    """Draw test HR@10 over the time of the whole chain; a line leads to the run's own time."""
    drawn = [run for run in looks.STYLES if any((one.group, run) in costs.runs for one in outcomes)]

    def draw(axes: Axes, outcome: Outcome) -> None:
        for result in outcome.runs:
            key = (outcome.group, result.run)
            if key not in costs.runs:
                continue
            style, value = looks.STYLES[result.run], 100 * result.estimates["test", results.HR].mean
            own = costs.runs[key].seconds
            whole = own + costs.shares.get(key, 0.0)
            if whole > own > 0:
                axes.plot([own, whole], [value, value], color=style.colour, linewidth=1)
            for seconds, size in ((whole, 8), (own, 5)):
                if seconds > 0:
                    axes.plot(
                        seconds, value, style.marker, color=style.colour,
                        markerfacecolor=looks.face(style), markersize=size,
                    )  # fmt: skip
            if result.capped and whole > 0:
                looks.dagger(axes, whole, value)
        panels.times(axes)
        axes.set_ylabel("HR@10, %")
        panels.from_zero(axes)
        axes.grid(axis="y", color="#eeeeee")

    marked = looks.capped(outcomes)
    legend = [looks.handle(run, is_line=False, is_capped=run in marked) for run in drawn]
    label = "time of the whole chain; small: the run alone"
    return panels.grid(_by_target(outcomes), draw, 3.2, label, legend + _notes(outcomes))


def curves(outcomes: Sequence[Outcome], found: Mapping[Group, Mapping[str, Curve]]) -> Figure:
    """Draw validation HR@10 over the epochs of every run; a large marker is the epoch kept.

    Where an encoder joined, only what followed is drawn: its probe is the frozen run's own curve.
    """
    shown = [one for one in outcomes if one.group in found]

    def draw(axes: Axes, outcome: Outcome) -> None:
        for run, curve in found[outcome.group].items():
            _curve(axes, run, curve, outcome.results[run].capped)
        axes.set_ylabel("validation HR@10, %")
        panels.from_zero(axes)
        axes.grid(axis="y", color="#eeeeee")

    listed = [run for run in looks.STYLES if any(run in runs for runs in found.values())]
    marked = looks.capped(shown)
    legend = [looks.handle(run, is_line=True, is_capped=run in marked) for run in listed]
    label = "epoch (first seed)"
    return panels.grid(_by_target(shown), draw, 3.2, label, legend + _notes(shown, listed))


def slices(outcomes: Sequence[Outcome], shared: Mapping[str, Overlap]) -> Figure:
    """Draw test HR@10 apart for held-out items that the source has and has not."""
    names = [*outcomes[0].results]
    divided = {one.group: divisions.by_source(one, shared) for one in outcomes}

    def draw(axes: Axes, outcome: Outcome) -> None:
        counts = []
        for title, users in divided[outcome.group].items():
            counts.append(f"{users.sum():,} {title.partition(' ')[0]}")
            for row, run in enumerate(names if users.sum() >= divisions.LEAST else ()):
                _slice(axes, row, title, divisions.estimate(outcome.results[run], users))
        axes.set_title(f"users: {', '.join(counts)}", fontsize=8, loc="right")
        axes.set_yticks(range(len(names)), _ticks(outcome))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_xlim(left=0)

    legend = [
        Line2D([], [], color=colour, marker=marker, label=f"held-out item {title}")
        for title, (colour, _, marker) in looks.SLICES.items()
    ]
    legend += _notes(outcomes)
    return panels.grid(_by_target(outcomes), draw, 0.36 * len(names) + 1.2, "HR@10, %", legend)


def _by_target(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    return {outcome.group.target: outcome for outcome in outcomes}


def _ticks(outcome: Outcome) -> list[str]:
    return [looks.name(run, result.capped) for run, result in outcome.results.items()]


def _notes(outcomes: Sequence[Outcome], runs: Sequence[str] | None = None) -> list[Line2D]:
    """Explain the mark of a cap where one of the runs (all, if not named) carries it."""
    marked = looks.capped(outcomes)
    return [looks.note()] if marked & set(marked if runs is None else runs) else []


def _bar(axes: Axes, row: int, found: Estimate, style: looks.Style) -> None:
    edge = style.colour if not style.hatch else "white"
    axes.barh(
        row, 100 * found.mean, 0.72, color=looks.face(style), edgecolor=edge, hatch=style.hatch
    )
    axes.plot([100 * found.low, 100 * found.high], [row, row], color=INK, linewidth=1.2)


def _slice(axes: Axes, row: int, title: str, found: Estimate) -> None:
    """Draw a slice of a run; an open mark is one whose interval has no width."""
    colour, shift, marker = looks.SLICES[title]
    axes.plot([100 * found.low, 100 * found.high], [row + shift] * 2, color=colour)
    axes.plot(
        100 * found.mean, row + shift, marker, color=colour, markersize=5, clip_on=False,
        markerfacecolor=colour if found.low < found.high else "white",
    )  # fmt: skip


def _curve(axes: Axes, run: str, curve: Curve, is_capped: bool) -> None:
    style, rows = looks.STYLES[run], curve.rows
    if "joint" in rows["phase"]:
        rows = rows.filter(pl.col("phase") == "joint")
    epochs, values = rows["epoch"].to_numpy(), 100 * rows[results.HR].to_numpy()
    axes.plot(
        epochs, values, linestyle=style.line, color=style.colour, linewidth=1.5,
        marker=style.marker, markersize=4, markevery=-(-len(epochs) // MARKS),
    )  # fmt: skip
    kept = (rows["epoch"] == curve.best_epoch) & (rows["phase"] == curve.best_phase)
    best = rows.filter(kept)
    axes.plot(
        best["epoch"], 100 * best[results.HR], style.marker, color=style.colour,
        markeredgecolor=INK, markersize=9,
    )  # fmt: skip
    if is_capped:
        looks.dagger(axes, epochs[-1], values[-1])


def _line(axes: Axes, share: float, style: str) -> None:
    axes.axvline(100 * share, color=INK, linestyle=style, linewidth=1)

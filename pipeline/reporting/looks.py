"""How runs look in figures: the same run always the same, told apart without its colour too."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.data import lists
from pipeline.reporting import tables
from pipeline.reporting.results import Outcome

# Colours that stay apart for colour-blind eyes (Okabe and Ito).
GREY, BLUE, SKY, GREEN, RED = "#6e6e6e", "#0072B2", "#56B4E9", "#009E73", "#D55E00"
LIGHT = "#cccccc"
INK = "#222222"

# As matplotlib has them: a name, or an offset and lengths of ink and gap.
Line = Literal["-", "--", "-.", ":", ""] | tuple[float, Sequence[float]]


class Style(NamedTuple):
    """How a run is drawn: the colour is its tower, line and marker are its own."""

    colour: str
    line: Line
    marker: str
    hatch: str = ""  # of runs that start from the source
    is_filled: bool = True  # not of runs that train nothing


STYLES = {
    "id": Style(GREY, ":", "X"),
    "frozen": Style(BLUE, "-", "o"),
    "frozen_paper": Style(SKY, (0, (8, 2)), "P"),
    "end2end": Style(RED, "--", "s"),
    "frozen_transfer": Style(BLUE, "-.", "^", "///"),
    "tuned_transfer": Style(GREEN, (0, (1, 1)), "D", "///"),
    "end2end_transfer": Style(RED, (0, (5, 1, 1, 1, 1, 1)), "v", "///"),
    "frozen_zeroshot": Style(BLUE, "", "<", "", is_filled=False),
    "tuned_zeroshot": Style(GREEN, "", ">", "", is_filled=False),
}
SANITY = Style(LIGHT, "", "o")  # recommenders without training: bars alone


class Claim(NamedTuple):
    """How a stated difference is drawn."""

    colour: str
    line: Line
    marker: str
    is_filled: bool


READINGS = {
    "higher": Claim(GREEN, "-", ">", is_filled=True),
    "lower": Claim(RED, "-", "<", is_filled=True),
    "not shown": Claim(GREY, "-", "o", is_filled=False),
    "capped": Claim(GREY, "--", "o", is_filled=False),
}
SLICES = {"in the source": (BLUE, -0.15, "o"), "not in the source": (RED, 0.15, "s")}
COLOURS = {  # what those of bars mean
    GREY: "item ids",
    BLUE: "frozen",
    SKY: "paper's head",
    RED: "end to end",
    GREEN: "source-tuned",
    LIGHT: "no training",
}


def name(run: str, is_capped: bool = False) -> str:
    """Show a run's name in a figure, where nothing is markup, with the mark of a cap."""
    shown = tables.LABELS.get(run, run) if run in lists.SANITY else run
    return shown + tables.DAGGER * is_capped


def face(style: Style | Claim) -> str:
    """Give the colour inside a marker."""
    return style.colour if style.is_filled else "white"


def capped(outcomes: Iterable[Outcome]) -> set[str]:
    """Name the runs that are capped on one target at least."""
    return {one.run for outcome in outcomes for one in outcome.results.values() if one.capped}


def handle(run: str, is_line: bool, is_capped: bool) -> Line2D:
    """Make a run's entry in a legend: the marker it has in the figure, on its line if it has one.

    Args:
        run: whose entry.
        is_line: whether the figure draws lines.
        is_capped: whether the run carries the mark of a cap somewhere in the figure.
    """
    style = STYLES[run]
    return Line2D(
        [], [], color=style.colour, linestyle=style.line if is_line else "",
        marker=style.marker, markerfacecolor=face(style), label=name(run, is_capped),
    )  # fmt: skip


def meanings(runs: Iterable[str]) -> list[Patch]:
    """Make the entries of a legend that say what colours and hatches of runs' bars mean."""
    styles = [STYLES.get(run, SANITY) for run in runs]
    drawn = {style.colour for style in styles}
    made = [Patch(color=one, label=title) for one, title in COLOURS.items() if one in drawn]
    if any(style.hatch for style in styles):
        label = "from the source"
        made.append(Patch(facecolor=INK, edgecolor="white", hatch="///", label=label))
    if not all(style.is_filled for style in styles):
        label = "zero-shot"
        made.append(Patch(facecolor="white", edgecolor=INK, label=label))
    return made


def claim_handle(reading: str, marker: str) -> Line2D:
    """Make the entry of a legend that says what a difference's look means."""
    claim = READINGS[reading]
    return Line2D(
        [], [], color=claim.colour, linestyle=claim.line, marker=marker, linewidth=2,
        markerfacecolor=face(claim),
        label=f"claimed: {reading}" if claim.is_filled else tables.READINGS.get(reading, reading),
    )  # fmt: skip


def dagger(axes: Axes, x: float, y: float) -> None:
    """Mark a point of a capped run."""
    axes.annotate(tables.DAGGER, (x, y), (5, 2), textcoords="offset points", color=INK, fontsize=10)


def note() -> Line2D:
    """Make the legend's entry that says what the mark of a cap means."""
    return Line2D(
        [],
        [],
        linestyle="",
        marker="$\N{DAGGER}$",
        color=INK,
        label="stopped by its cap",
    )

"""What the figures show, read off their axes."""

import itertools
import re

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.data.kinds import ZEROSHOT
from pipeline.reporting import divisions, evidence, figures, gallery, looks, panels, plots, results
from pipeline.reporting.markdown import MINUS
from pipeline.reporting.plots import Curve
from tests.reporting.conftest import JOINT, MORE, PAIRS, QUALITY

RUNS = [*QUALITY["near"], *(run for run in MORE if "knn" not in run and run != "popularity")]
SANITY = ["popularity", "itemKNN", "content kNN"]


@pytest.fixture
def drawn(world):
    """Make the figures of a world, by kind."""

    def draw(targets=tuple(QUALITY)):
        wanted = evidence.Wanted(["old"], [*targets], ["text"], ["sasrec"], RUNS, [7], PAIRS, [])
        parts = (world.root / part for part in ("prepare", "cards", "evaluate", "costs"))
        found = evidence.gather(wanted, evidence.Where(*parts))
        curves = {
            one.group: plots.read_curves(world.root / "runs", one.group, RUNS, [7])
            for one in found.outcomes
        }
        return gallery.series(found, curves, "text", "sasrec")

    return draw


@pytest.fixture
def capped(world):
    """One capped run on near, and a capped source of what starts from frozen pre-training."""
    world.evaluate("near", capped=["end2end"])
    world.cost("pretrain/old-text-frozen-sasrec", 100.0, capped=True)


CAPPED = {"near": {"end2end", "frozen_transfer", "frozen_zeroshot"}}
CAPPED["far"] = CAPPED["near"] - {"end2end"}


def panel(figure, target):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == target)


def ticks(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(figure):
    return {text.get_text(): line for text, line in entries(figure)}


def entries(figure):
    (found,) = figure.legends
    return zip(found.get_texts(), found.legend_handles, strict=True)


def daggers(axes):
    return sum(text.get_text() == "†" for text in axes.texts)


@pytest.mark.parametrize("targets", [1, 2])
def test_legends_are_within_their_figures(drawn, capped, targets):
    for kind, figure in drawn([*QUALITY][:targets]).items():
        FigureCanvasAgg(figure).draw()
        inner, outer = figure.legends[0].get_window_extent(), figure.bbox
        assert outer.x0 <= inner.x0 and inner.x1 <= outer.x1, kind
        assert outer.y0 <= inner.y0 and inner.y1 <= outer.y1, kind


def test_there_is_a_panel_a_target(drawn):
    made = drawn()
    assert [*made] == ["scores", "differences", "cost", "slices", "curves"]
    for figure in made.values():
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["near", "far"]


def test_every_run_has_its_bar_and_its_name(drawn):
    figure = drawn()["scores"]
    for target in ("near", "far"):
        axes = panel(figure, target)
        assert ticks(axes) == [*RUNS, *SANITY]
        assert len(axes.patches) == len(RUNS) + len(SANITY)
        widths = dict(zip(ticks(axes), (bar.get_width() for bar in axes.patches), strict=True))
        assert widths["end2end"] == pytest.approx(100 * QUALITY[target]["end2end"], abs=4)
    assert [*legend(figure)] == [
        "test, 95 % over users", "validation", "random",
        "item ids", "frozen", "end to end", "source-tuned", "no training",
        "from the source", "zero-shot",
    ]  # fmt: skip


def test_entries_of_bars_are_as_the_bars(drawn):
    figure = drawn()["scores"]
    entry, axes = legend(figure), panel(figure, "near")
    bars = dict(zip(ticks(axes), axes.patches, strict=True))
    for run, title in [
        ("id", "item ids"),
        ("end2end", "end to end"),
        ("popularity", "no training"),
    ]:
        assert bars[run].get_facecolor() == entry[title].get_facecolor()
    assert bars["end2end_transfer"].get_hatch() == entry["from the source"].get_hatch() == "///"
    assert bars["tuned_zeroshot"].get_facecolor() == entry["zero-shot"].get_facecolor()


def test_differences_have_one_axis_on_all_targets(drawn):
    figure = drawn()["differences"]
    near, far = (panel(figure, target) for target in ("near", "far"))
    assert near.get_xlim() == far.get_xlim()
    low, high = near.get_xlim()
    for line in [*near.lines, *far.lines]:
        assert low < min(line.get_xdata()) or len({*line.get_xdata()}) == 1
        assert max(line.get_xdata()) < high or len({*line.get_xdata()}) == 1


def test_ticks_of_capped_runs_carry_the_dagger(drawn, capped):
    made = drawn()
    for kind, target in itertools.product(("scores", "slices"), ("near", "far")):
        names = ticks(panel(made[kind], target))
        assert {name[:-1] for name in names if name.endswith("†")} == CAPPED[target], kind
    for kind in ("scores", "slices", "cost", "curves"):
        assert any("cap" in text for text in legend(made[kind])), kind


def test_points_and_entries_of_capped_runs_carry_the_dagger(drawn, capped):
    made = drawn()
    for kind, shown in [("cost", {*RUNS}), ("curves", {*RUNS} - {*ZEROSHOT})]:
        marked = {name[:-1] for name in legend(made[kind]) if name.endswith("†")}
        assert marked == CAPPED["near"] & shown, kind
        for target in ("near", "far"):
            assert daggers(panel(made[kind], target)) == len(CAPPED[target] & shown)


def test_no_dagger_where_nothing_is_capped(drawn):
    for figure in drawn().values():
        assert not any("†" in text for text in legend(figure))
        for axes in figure.axes:
            assert not daggers(axes) and not any("†" in text for text in ticks(axes))


def test_capped_differences_are_dashed_and_marked(drawn, capped):
    figure = drawn()["differences"]
    axes = panel(figure, "near")
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2][1:]  # the first is zero
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(lines) == len(marks) == len(ticks(axes)) == 7
    for label, line, mark in zip(ticks(axes), lines, marks, strict=True):
        is_capped = not CAPPED["near"].isdisjoint(
            label.rstrip("†").replace(f"{MINUS} ", "").split("\n")
        )
        assert label.endswith("†") == is_capped
        assert (line.get_linestyle() == "--") == is_capped
        assert line.get_color() != looks.LIGHT
        if is_capped:
            assert mark.get_markerfacecolor() == "white"
    assert legend(figure)["capped†, no conclusion"].get_linestyle() == "--"


def test_differences_say_their_reading_without_their_colour():
    seen = {(claim.line, claim.marker, claim.is_filled) for claim in looks.READINGS.values()}
    assert len(seen) == len(looks.READINGS)
    assert {*looks.READINGS} == {"higher", "lower", "not shown", "capped"}


def test_runs_are_told_apart_without_their_colour():
    """Curves by line and marker each, points by marker alone."""
    trained = {run: style for run, style in looks.STYLES.items() if run not in ZEROSHOT}
    assert len({str(style.line) for style in trained.values()}) == len(trained)
    assert len({style.marker for style in looks.STYLES.values()}) == len(looks.STYLES)
    for one, other in [
        ("frozen", "end2end"),
        ("frozen_transfer", "tuned_transfer"),
        ("frozen_transfer", "end2end_transfer"),
    ]:
        assert looks.STYLES[one].line != looks.STYLES[other].line
        assert looks.STYLES[one].marker != looks.STYLES[other].marker


def test_entries_of_the_legend_are_what_is_drawn(drawn):
    figure = drawn()["cost"]
    entry = legend(figure)
    assert [*entry] == [run for run in looks.STYLES if run in RUNS]
    points = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_color())
        for line in panel(figure, "near").lines
        if line.get_marker() not in ("", "None", None)
    }
    assert points == {
        (line.get_marker(), line.get_markerfacecolor(), line.get_color()) for line in entry.values()
    }
    for run in ZEROSHOT:
        assert entry[run].get_markerfacecolor() == "white"
        assert entry[run].get_marker() == looks.STYLES[run].marker


def test_costs_begin_at_0_and_show_both_times(drawn):
    axes = panel(drawn()["cost"], "near")
    assert axes.get_ylim()[0] == 0
    at = {
        run: sorted(
            float(line.get_xdata()[0])
            for line in axes.lines
            if line.get_marker() == looks.STYLES[run].marker
        )
        for run in RUNS
    }
    assert at["frozen"] == [30, 30] and at["frozen_transfer"] == [30, 30 + 50]
    assert at["frozen_zeroshot"] == [50]  # trains nothing: its share of pre-training alone
    of_run = [
        line for line in axes.lines if line.get_marker() == looks.STYLES["tuned_transfer"].marker
    ]
    whole, own = sorted(of_run, key=lambda line: -line.get_xdata()[0])
    assert whole.get_markersize() > own.get_markersize()


def test_the_large_marker_is_the_epoch_that_was_kept(drawn):
    """Not the one of the largest HR@10, which is the last: it was chosen by another metric."""
    axes = panel(drawn()["curves"], "near")
    for run in (run for run in RUNS if run not in ZEROSHOT):
        style = looks.STYLES[run]
        curve, best = [line for line in axes.lines if line.get_marker() == style.marker]
        epochs = [*curve.get_xdata()]
        assert epochs == [*range(7, 12)] if run in JOINT else [*range(12)]
        assert [*best.get_xdata()] == [10]
        assert best.get_markersize() > curve.get_markersize()
    assert "first seed" in axes.get_xlabel()
    assert axes.get_ylim()[0] == 0


def test_the_kept_epoch_is_sought_in_its_own_phase():
    """The encoder joins at epoch 2: the probe's row of that epoch is another model."""
    rows = pl.DataFrame(
        {
            "epoch": [0, 1, 2, 2, 3],
            "phase": ["probe"] * 3 + ["joint"] * 2,
            "hr@10": [0.1, 0.3, 0.2, 0.3, 0.25],
        }
    )
    group = results.Group("near", "text", "sasrec")
    result = results.Result("end2end", False, {}, {}, {}, {})
    outcome = results.Outcome(group, {}, {"end2end": result}, [10], pl.DataFrame())
    figure = figures.curves([outcome], {group: {"end2end": Curve(rows, 2, "joint")}})
    curve, best = panel(figure, "near").lines
    assert [*curve.get_xdata()] == [2, 3]
    assert ([*best.get_xdata()], [*best.get_ydata()]) == ([2], [pytest.approx(30)])


def test_no_mark_is_cut_off_by_the_frame(drawn):
    for kind in ("cost", "curves"):
        for axes in drawn()[kind].axes:
            highest = max(max(line.get_ydata()) for line in axes.lines if len(line.get_ydata()))
            assert axes.get_ylim() == (0, pytest.approx(1.1 * highest)), kind


def test_slices_have_two_marks_a_run_where_both_have_users(drawn):
    figure = drawn()["slices"]
    counts = {
        target: sum(len(line.get_xdata()) == 1 for line in panel(figure, target).lines)
        for target in ("near", "far")
    }
    runs = len(RUNS) + len(SANITY)
    assert counts == {"near": 2 * runs, "far": runs}  # far shares nothing with the source
    assert [*legend(figure)] == ["held-out item in the source", "held-out item not in the source"]


def test_slices_say_their_users_and_are_not_drawn_if_too_few_are_on_one_side(drawn, monkeypatch):
    figure = drawn()["slices"]
    near, far = (panel(figure, target).get_title(loc="right") for target in ("near", "far"))
    known, others = (int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", near))
    assert near == f"users: {known:,} in, {others:,} not" and known + others == 1500
    assert far == "users: 0 in, 1,500 not"
    monkeypatch.setattr(divisions, "LEAST", min(known, others) + 1)
    assert "slices" not in drawn()  # all that is left says what `scores` says


def test_a_small_slice_is_left_out_of_its_panel_alone(drawn, monkeypatch):
    whole = divisions.by_source

    def few(outcome, shared):
        found = whole(outcome, shared)
        if outcome.group.target == "far":
            is_known = np.arange(1500) < divisions.LEAST - 1
            found = {"in the source": is_known, "not in the source": ~is_known}
        return found

    monkeypatch.setattr(divisions, "by_source", few)
    axes = panel(drawn()["slices"], "far")
    assert axes.get_title(loc="right") == "users: 19 in, 1,481 not"
    marks = sum(len(line.get_xdata()) == 1 for line in axes.lines)
    assert marks == len(RUNS) + len(SANITY)


def test_a_slice_without_a_hit_is_an_open_mark(drawn, world):
    path = world.root / "evaluate" / "far-text-sasrec" / "ranks.parquet"
    ranks = pl.read_parquet(path)
    missed = pl.when(pl.col("run") == "id").then(pl.lit(99)).otherwise(pl.col("better"))
    ranks.with_columns(missed.cast(ranks.schema["better"]).alias("better")).write_parquet(path)
    axes = panel(drawn()["slices"], "far")
    faces = [line.get_markerfacecolor() for line in axes.lines if len(line.get_xdata()) == 1]
    named = zip(ticks(axes), faces, strict=True)
    assert {name for name, face in named if face == "white"} == {"id"}


def test_the_same_figure_gives_the_same_bytes(drawn, tmp_path):
    for number in (1, 2):
        panels.save(drawn()["differences"], tmp_path / f"{number}.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_long_times_have_few_ticks(drawn, world):
    world.cost("near-text-sasrec/end2end", 90_000.0)
    labels = [tick.get_text() for tick in panel(drawn()["cost"], "near").get_xticklabels()]
    assert 3 <= len(labels) <= 7 and all(label.split()[1] in ("s", "min", "h") for label in labels)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (12, 25, ["12.0 s", "25.0 s"]),
        (70, 170, ["1 min 10 s", "2 min 50 s"]),
        (18_000, 28_800, ["5 h 00 min", "8 h 00 min"]),
        (8, 40, ["10 s", "30 s"]),
        (12.01, 12.03, ["12.0 s"]),
    ],
)
def test_times_close_together_have_numbers_too(low, high, shown):
    axes = panels.Figure().subplots()
    axes.plot([low, high], [1, 2], "o")
    panels.times(axes)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == shown


def test_every_pair_can_be_drawn():
    drawn = {run for pair in PAIRS for run in pair}
    assert drawn <= {*looks.STYLES}
    assert np.all([style.colour.startswith("#") for style in looks.STYLES.values()])

"""What the figure of the break-even curve shows, read off its axes."""

import itertools

import known_results
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.reporting import breakeven, breakeven_figure, looks, panels
from pipeline.reporting.breakeven import TIMES
from pipeline.reporting.results import HR, Group
from pipeline.retrieval import significance

GROUP = Group("films", "text", "sasrec")
HIGHER, EQUAL = {"id": 5, "frozen": 10, "end2end": 30}, {"id": 5, "frozen": 20, "end2end": 20}
LOWER = {"id": 5, "frozen": 30, "end2end": 10}


@pytest.fixture
def points(tmp_path, monkeypatch):
    """Make a point of each number of users; end to end takes a second a user, frozen 10 s."""
    monkeypatch.setattr(significance, "RESAMPLES", 2000)

    def make(hits, **capped):
        folders = []
        for users, known in hits.items():
            root, seconds = tmp_path / str(users), {f"{'-'.join(GROUP)}/end2end": users}
            seconds[f"{'-'.join(GROUP)}/frozen"] = 10
            named = capped.get(f"at_{users}", ())
            known_results.write(root, GROUP, users, known, capped=named, seconds=seconds)
            folders.append((root / "evaluate", root / "costs"))
        return breakeven.gather(GROUP, folders, [0])

    return make


def drawn(figure):
    figure.canvas = FigureCanvasAgg(figure)
    figure.canvas.draw()
    return figure.axes


def lines(axes, colour):
    return [line for line in axes.lines if line.get_color() == colour]


def test_the_runs_stand_above_with_their_intervals(points):
    found = points({50: EQUAL, 100: HIGHER})
    upper, _ = drawn(breakeven_figure.draw(found))
    assert upper.get_title(loc="left") == "films, text, sasrec, 1 seed" and upper.get_ylim()[0] == 0
    expected = {"id": [10, 5], "frozen": [40, 10], "end2end": [40, 30]}
    for run, means in expected.items():
        curve, *intervals = lines(upper, looks.STYLES[run].colour)
        assert [*curve.get_ydata()] == pytest.approx(means)
        assert [*curve.get_xdata()] == pytest.approx([50, 100], rel=0.02)
        for point, interval in zip(found, intervals, strict=True):
            estimate = point.outcome.results[run].estimates["test", HR]
            assert [*interval.get_ydata()] == pytest.approx(
                [100 * estimate.low, 100 * estimate.high]
            )


@pytest.mark.parametrize("users", [(50, 100), (50, 100, 200)])
def test_a_line_joins_three_numbers_of_users_or_more(points, users):
    upper, _ = drawn(breakeven_figure.draw(points(dict.fromkeys(users, HIGHER))))
    for run in breakeven.RUNS:
        curve = lines(upper, looks.STYLES[run].colour)[0]
        assert (curve.get_linestyle() == "None") == (len(users) < 3)


def test_intervals_of_the_runs_stand_beside_each_other(points):
    upper, _ = drawn(breakeven_figure.draw(points({100: HIGHER})))
    at = {
        line.get_xdata()[0]
        for run in breakeven.RUNS
        for line in lines(upper, looks.STYLES[run].colour)
    }
    assert len(at) == 3


def test_the_difference_stands_below_around_zero(points):
    found = points({50: EQUAL, 100: HIGHER, 200: LOWER, 400: HIGHER}, at_400=["end2end"])
    _, lower = drawn(breakeven_figure.draw(found))
    assert lower.get_xscale() == "log"
    zero, *pairs = lower.lines
    assert {*zero.get_ydata()} == {0}
    marks = {}
    for point, interval, mark in zip(found, pairs[::2], pairs[1::2], strict=True):
        estimate = point.differences[HR].difference
        assert [*interval.get_ydata()] == pytest.approx([100 * estimate.low, 100 * estimate.high])
        assert [*interval.get_xdata()] == [point.users] * 2 and [*mark.get_xdata()] == [point.users]
        filled = mark.get_markerfacecolor() == mark.get_color()
        marks[point.users] = (float(mark.get_ydata()[0]), mark.get_marker(), filled)
    assert marks[50] == (pytest.approx(0), "o", False)
    assert marks[100] == (pytest.approx(20), "^", True)
    assert marks[200] == (pytest.approx(-10), "v", True)
    assert marks[400] == (pytest.approx(5), "o", False)  # capped: not claimed


def test_every_number_of_users_says_what_end_to_end_took(points):
    _, lower = drawn(breakeven_figure.draw(points({50: EQUAL, 1200: HIGHER})))
    labels = [label.get_text() for label in lower.get_xticklabels()]
    assert labels == [f"50\n50.0 s\n5.0 {TIMES}", f"1,200\n20 min 00 s\n120.0 {TIMES}"]


def test_capped_points_carry_the_dagger(points):
    found = points({50: EQUAL, 100: HIGHER}, at_100=["end2end"])
    upper, lower = drawn(breakeven_figure.draw(found))
    for axes in (upper, lower):
        (dagger,) = [text for text in axes.texts if text.get_text() == "†"]
        assert dagger.xy[0] == pytest.approx(100, rel=0.02)
    (legend,) = upper.figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [
        "id", "frozen", "end2end†", "no difference shown", "capped†, no conclusion",
        "stopped by its cap",
    ]  # fmt: skip


def test_the_legend_names_the_readings_there_are(points):
    figure = breakeven_figure.draw(points({100: HIGHER, 200: LOWER}))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["id", "frozen", "end2end", "claimed: higher", "claimed: lower"]


@pytest.mark.parametrize(
    "users", [(100,), (750, 1500, 3000, 6040), (1000, 2000, 1_000_000), (50, 51, 100_000)]
)
def test_legend_is_within_the_figure_and_labels_apart(points, users):
    figure = breakeven_figure.draw(points(dict.fromkeys(users, HIGHER)))
    _, lower = drawn(figure)
    inner, outer = figure.legends[0].get_window_extent(), figure.bbox
    assert outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0
    boxes = [label.get_window_extent() for label in lower.get_xticklabels()]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0 or users == (50, 51, 100_000)
    assert boxes[0].x0 >= outer.x0 and boxes[-1].x1 <= outer.x1


def test_the_same_curve_gives_the_same_bytes(points, tmp_path):
    found = points({50: EQUAL, 100: HIGHER})
    for number in (1, 2):
        panels.save(breakeven_figure.draw(found), tmp_path / f"{number}.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()

"""The break-even curve's numbers, against hits that are known user by user."""

import io

import known_results
import polars as pl
import pytest

from pipeline.data import files
from pipeline.reporting import breakeven, captions
from pipeline.reporting.markdown import MINUS, NOTHING
from pipeline.reporting.results import Group
from pipeline.retrieval import significance
from tests.reporting.conftest import rows

GROUP = Group("films_1", "text", "sasrec")
NAME = "films_1-text-sasrec"
SECONDS = {f"{NAME}/frozen": 30.0, f"{NAME}/end2end": 400.0, "embed/films_1-text": 20.0}
SECONDS["films_1-id-sasrec/id"] = 5.0
# users -> hits: at 8 users 4 differ, all for end to end; at 40 users 20 do
TWO = {
    8: {"id": 1, "frozen": 2, "end2end": 6},
    40: {"id": 4, "frozen": 10, "end2end": 30},
}


@pytest.fixture
def gather(tmp_path, monkeypatch):
    """Write known results of some numbers of users, and read them as the curve's points."""
    monkeypatch.setattr(significance, "RESAMPLES", 2000)

    def make(hits, seeds=(0,), seconds=SECONDS, **capped):
        folders = []
        for users, known in hits.items():
            root = tmp_path / str(users)
            known_results.write(
                root, GROUP, users, known, seeds, capped.get(f"at_{users}", ()), seconds
            )
            folders.append((root / "evaluate", root / "costs"))
        return breakeven.gather(GROUP, folders, seeds)

    return make


def test_the_difference_and_its_p_are_those_worked_by_hand(gather):
    """p of w users for one run and none for the other is 2^(1 - w); Holm's m is 2 points x 2
    metrics, which are alike here, since a hit at rank 1 has NDCG 1."""
    few, many = gather(TWO)
    for metric in ("hr@10", "ndcg@10"):
        assert few.differences[metric].difference.mean == pytest.approx(6 / 8 - 2 / 8)
        assert few.differences[metric].p == pytest.approx(2 * 2.0 ** (1 - 4))
        assert many.differences[metric].difference.mean == pytest.approx(30 / 40 - 10 / 40)
        assert many.differences[metric].p == pytest.approx(4 * 2.0 ** (1 - 20))
    assert few.differences["hr@10"].reading == "not shown"
    assert many.differences["hr@10"].reading == "higher"


def test_points_stand_in_the_order_of_their_users(gather):
    points = gather({40: TWO[40], 8: TWO[8]})
    assert [point.users for point in points] == [8, 40]
    assert points[0].differences["hr@10"].p > points[1].differences["hr@10"].p


def test_a_missing_evaluation_stops(tmp_path):
    with pytest.raises(files.Stop, match=f"{NAME} holds no evaluation: run `dvc repro`"):
        breakeven.gather(GROUP, [(tmp_path / "evaluate", tmp_path / "costs")], [0])


def test_tables_hold_the_numbers(gather):
    text = breakeven.document(gather(TWO), "curve.png")
    hr, ndcg = rows(text, "8")[:2]
    assert hr[:2] == ["8", "300"]
    for cell, mean in zip(hr[2:6], ("12.50 [", "25.00 [", "75.00 [", "+50.00 ["), strict=True):
        assert cell.startswith(mean)
    assert hr[6:] == ["0.25", "not shown"] and ndcg[2:] == hr[2:]
    (hr, _), header = rows(text, "40")[:2], rows(text, "users")
    assert hr[5].startswith("+50.00 [+3") and hr[6:] == ["&lt; 0.0001", "higher"]
    assert header[0] == [
        "users", "candidates", "id, HR@10", "frozen, HR@10", "end2end, HR@10",
        f"end2end {MINUS} frozen, points", "p (Holm)", "reading",
    ]  # fmt: skip
    assert header[1][2] == "id, NDCG@10"
    assert "![Test HR@10 of id, frozen and end2end" in text and "](curve.png)" in text
    assert "for all 4 differences of this page" in text
    assert "over users, one training. p is" in text and "±" not in text and "†" not in text
    assert "the candidates differ too" in text


def test_the_times_are_those_of_all_trials_and_the_embedding(gather):
    """frozen 30 + 20 s, end2end 400 + 20 s: 8.4 times as long."""
    text = breakeven.document(gather(TWO), "curve.png")
    assert rows(text, "8")[2] == ["8", "50.0 s", "7 min 00 s", "8.4"]
    assert [row[5] for row in rows(text, "end2end")] == [
        "6 min 40 s"
    ] * 2  # its own, in the details


def test_a_time_that_nobody_wrote_is_a_dash(gather):
    some = {name: spent for name, spent in SECONDS.items() if "frozen" not in name}
    (point,) = gather({8: TWO[8]}, seconds=some)
    assert point.ratio is None
    text = breakeven.document([point], "curve.png")
    assert rows(text, "8")[2] == ["8", NOTHING, "7 min 00 s", NOTHING]


def test_several_seeds_give_mean_and_sd(gather):
    """frozen hits 8 and 12 of 40, end2end 20 and 30: the differences are 0.3 and 0.45."""
    (point,) = gather({40: {"id": 4, "frozen": [8, 12], "end2end": [20, 30]}}, seeds=(7, 9))
    one = point.differences["hr@10"]
    assert one.difference.mean == pytest.approx((0.3 + 0.45) / 2)
    assert one.sd == pytest.approx((0.45 - 0.3) / 2**0.5)
    text = breakeven.document([point], "curve.png")
    (cells, _, _) = rows(text, "40")
    assert cells[3].startswith("25.00 [") and cells[3].endswith("] ± 7.07")
    assert cells[5].startswith("+37.50 [") and cells[5].endswith("] ± 10.61")
    assert "the mean of 2 trainings; ± is the standard deviation between the 2 seeds" in text


def test_a_difference_below_the_spread_of_the_seeds_is_not_shown(gather):
    """0 and 0.5 in two seeds: p and interval are clear, but the mean 0.25 is below the sd."""
    (point,) = gather({40: {"id": 4, "frozen": 10, "end2end": [10, 30]}}, seeds=(0, 1))
    one = point.differences["hr@10"]
    assert one.p < 0.001 and one.difference.low > 0
    assert one.reading == "not shown"
    (cells, _, _) = rows(breakeven.document([point], "curve.png"), "40")
    assert cells[3].endswith("] ± 0.00")  # two seeds of frozen, though they agree


def test_the_csv_has_a_row_a_run_metric_and_seed(gather):
    points = gather(TWO | {40: {"id": 4, "frozen": [8, 12], "end2end": [20, 30]}}, seeds=(9, 7))
    csv = pl.read_csv(io.StringIO(breakeven.table(points).write_csv()), schema=breakeven.SCHEMA)
    assert len(csv) == 2 * (3 * 2 * (1 + 2) + 2)
    known = csv.filter(users=40, run="frozen", metric="hr@10").sort("seed")
    assert known["seed"].to_list() == [None, 7, 9]
    assert known["mean"].to_list() == pytest.approx([10 / 40, 12 / 40, 8 / 40])
    assert known["sd"].to_list()[0] == pytest.approx(0.1 / 2**0.5)
    assert known["seconds"].to_list() == [50.0, None, None]
    assert (known["low"] < known["mean"]).all() and (known["mean"] < known["high"]).all()
    difference = csv.filter(users=40, run="end2end - frozen", metric="hr@10").to_dicts()[0]
    assert difference["mean"] == pytest.approx(0.375) and difference["reading"] == "higher"
    assert difference["p"] < 0.001 and difference["candidates"] == 300
    assert not any(csv["capped"])


HIGHER, EQUAL = {"id": 4, "frozen": 10, "end2end": 30}, {"id": 4, "frozen": 20, "end2end": 20}
LOWER = {"id": 4, "frozen": 30, "end2end": 10}
NONE = "**No break-even is shown**: with 42 users, the most that were tried, `end2end` is not shown"


def test_the_numbers_are_those_of_the_test(gather):
    """Validation would be 90 % everywhere, more than any number of the test."""
    points = gather({40: HIGHER})
    for result in points[0].outcome.results.values():
        for metric in ("hr@10", "ndcg@10"):
            result.estimates["valid", metric] = significance.Estimate(0.9, 0.9, 0.9)
    assert breakeven.table(points)["high"].max() < 0.9
    assert "90.00" not in breakeven.scores(points, "hr@10")


@pytest.mark.parametrize(
    ("known", "begins", "lines"),
    [
        (
            [LOWER, EQUAL, HIGHER],
            "**From 42 users on**, of the numbers tried, `end2end` is higher than `frozen`",
            [
                "- higher: 42 users +47.62",
                f"- lower: 40 users {MINUS}50.00",
                "- no difference shown: 41 users 0.00",
            ],
        ),
        (
            [EQUAL, HIGHER, HIGHER],
            "**From 41 users on**",
            ["- higher: 41 users +48.78, 42 users +47.62", "- no difference shown: 40 users 0.00"],
        ),
        ([HIGHER] * 3, "**From 40 users on**", None),
        ([HIGHER, HIGHER, EQUAL], NONE, None),
        ([EQUAL] * 3, NONE, ["- no difference shown: 40 users 0.00, 41 users 0.00, 42 users 0.00"]),
    ],
)
def test_the_verdict_is_the_least_number_from_which_on_all_are_higher(gather, known, begins, lines):
    points = gather(dict(zip((40, 41, 42), known, strict=True)))
    said = breakeven.verdict(points)
    assert said.startswith(begins)
    if lines is not None:
        assert said.splitlines()[2:] == lines
    for point in points:  # NDCG@10 has no say
        point.differences["ndcg@10"] = point.differences["ndcg@10"]._replace(p=1.0)
    assert breakeven.verdict(points) == said


def test_no_conclusion_is_drawn_from_a_capped_run(gather):
    points = gather({40: HIGHER, 41: HIGHER}, at_41=["end2end"])
    text = breakeven.document(points, "curve.png")
    assert "**No break-even is shown**" in text
    assert "- capped†, no conclusion: 41 users +48.78" in text
    cells = rows(text, "41")[0]
    assert cells[7] == "capped" and cells[4].endswith("†") and cells[5].endswith("†")
    assert not cells[3].endswith("†") and not rows(text, "40")[0][4].endswith("†")
    assert captions.CAPPED in text
    differences = breakeven.table(points).filter(run="end2end - frozen")
    assert differences["capped"].to_list() == [False, False, True, True]


def test_names_are_no_markup(gather):
    (point,) = gather({8: TWO[8]})
    outcome = point.outcome._replace(group=GROUP._replace(target="_x_"))
    text = breakeven.document([point._replace(outcome=outcome)], "curve.png")
    assert r"Target \_x\_, content text" in text

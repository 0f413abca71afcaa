from benchmarks import measure, sequence
from benchmarks.sequence_sides import Outcome
from tests.benchmarks.test_measure import MACHINE


def measured(epochs, beside, day="2026-01-02", version=""):
    outcomes = [Outcome(epoch, epoch / 10, 0.1, 0.05)._asdict() for epoch in epochs]
    named = {"machine": MACHINE | {"date": day}, "version": version, "beside": beside}
    return {**named, "epochs": 2, "outcomes": outcomes}


def test_ratios_are_taken_repeat_by_repeat():
    sides = ["ours-narrow", "RecTools"]
    both = {
        "ours-narrow": measured([1.0, 2.0, 4.0], sides),
        "RecTools": measured([8.0, 8.0, 8.0], sides),
    }
    assert sequence.faster("RecTools", both, "epoch") == (4.0, 2.0, 8.0, 3)
    assert sequence.older("20", both) == []


def test_a_peer_that_did_not_run_beside_ours_is_marked_and_compared_by_the_median():
    both = {
        "ours-narrow": measured([1.0, 2.0, 4.0], ["ours-narrow"], day="2026-03-04"),
        "RecTools": measured(
            [8.0, 6.0], ["ours-narrow", "RecTools"], version="0.19.0 (torch 2.13.0)"
        ),
    }
    assert sequence.faster("RecTools", both, "epoch") == (3.5, 3.0, 4.0, 2)
    text = sequence.tables({"lengths": {"20": both}, "converged": {}})
    side = "RecTools 0.19.0 (torch 2.13.0)"
    assert f"| 20 | {side} | 7.00 (6.00-8.00) | 3.5 (3.0-4.0) x |" in text
    assert "| 2 | 3 | [1] |" in text and "| 2 | 2 | [2] |" in text
    assert "- [1] 2026-03-04, " in text and "- [2] 2026-01-02, " in text
    assert "L 20: RecTools did not run beside ours; its times are of 2026-01-02" in text


def test_quality_that_a_script_did_not_give_is_said():
    silent = measured([1.0], ["ours-narrow", "RePlay"])
    silent["outcomes"][0]["ndcg"] = None
    both = {"ours-narrow": measured([1.0], ["ours-narrow", "RePlay"]), "RePlay": silent}
    marked = measure.marks(side["machine"] for side in both.values())
    assert sequence.lines("20", both, marked)[1][6] == "not given"


def test_a_peer_is_compared_with_our_side_that_is_as_wide():
    sides = ["ours", "ours-narrow", "RecTools", "RecBole"]
    four = {name: measured([float(2**n)], sides) for n, name in enumerate(sides)}
    assert sequence.faster("RecTools", four, "epoch").median == 4 / 2
    assert sequence.faster("RecBole", four, "epoch").median == 8 / 1
    marked = measure.marks(side["machine"] for side in four.values())
    assert [line[3] for line in sequence.lines("20", four, marked)] == [
        "", "", "2.0 (2.0-2.0) x", "8.0 (8.0-8.0) x",
    ]  # fmt: skip
    del four["ours-narrow"]
    assert [line[3] for line in sequence.lines("20", four, marked)][1] == ""
    assert sequence.older("20", four) == []

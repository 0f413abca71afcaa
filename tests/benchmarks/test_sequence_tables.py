from benchmarks import sequence
from benchmarks.sequence_sides import Outcome


def measured(epochs, beside, day="2026-01-02"):
    outcomes = [Outcome(epoch, epoch / 10, 0.1, 0.05)._asdict() for epoch in epochs]
    return {"measured": day, "beside": beside, "epochs": 2, "outcomes": outcomes}


def test_ratios_are_taken_repeat_by_repeat():
    sides = ["ours", "RecTools"]
    both = {"ours": measured([1.0, 2.0, 4.0], sides), "RecTools": measured([8.0, 8.0, 8.0], sides)}
    assert sequence.faster("RecTools", both, "epoch") == (4.0, 2.0, 8.0, 3)
    assert sequence.older("20", {"lengths": {"20": both}}) == []


def test_a_peer_that_did_not_run_beside_ours_is_marked_and_compared_by_the_median():
    both = {
        "ours": measured([1.0, 2.0, 4.0], ["ours"], day="2026-03-04"),
        "RecTools": measured([8.0, 6.0], ["ours", "RecTools"]),
    }
    assert sequence.faster("RecTools", both, "epoch") == (3.5, 3.0, 4.0, 2)
    text = sequence.tables({"lengths": {"20": both}, "converged": {}})
    assert "| 20 | RecTools | 7.00 (6.00-8.00) | 3.5 (3.0-4.0) x |" in text
    assert "L 20: RecTools did not run beside ours; its times are of 2026-01-02" in text


def test_quality_that_a_script_did_not_give_is_said():
    silent = measured([1.0], ["ours", "RePlay"])
    silent["outcomes"][0]["ndcg"] = None
    both = {"ours": measured([1.0], ["ours", "RePlay"]), "RePlay": silent}
    assert sequence.lines("20", both)[1][-1] == "not given"

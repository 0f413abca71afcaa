import numpy as np
import pytest

from pipeline.reporting import contrasts, results
from pipeline.reporting.results import Group, Outcome, Result
from pipeline.retrieval import significance


def result(run, values, capped=False):
    """A run with the same [S, U] values everywhere."""
    everywhere = {(part, m): values for part in ("valid", "test") for m in results.METRICS}
    return Result(run, capped, everywhere, {})


def state(*found):
    counts = {"users": 1, "candidates": 10}
    group = Group("near", "text", "sasrec")
    return contrasts.state([Outcome(group, counts, {one.run: one for one in found})])


def noise(seeds=1, users=400):
    return np.random.default_rng(0).random((seeds, users))


def test_a_difference_is_paired_by_user():
    """Users differ far more than the runs do: only pairing shows the difference."""
    values = noise() * 10
    higher, _ = state(result("frozen", values), result("end2end", values + 0.01))
    assert higher.difference.mean == pytest.approx(0.01)
    assert higher.difference.low == pytest.approx(0.01)
    assert higher.reading == "higher"
    lower, _ = state(result("frozen", values), result("end2end", values - 0.01))
    assert lower.reading == "lower"


def test_p_is_corrected_for_all_differences():
    rng = np.random.default_rng(1)
    base = rng.random((1, 300))
    better = base + rng.normal(0.02, 0.17, (1, 300))
    stated = state(result("frozen", base), result("end2end", better))
    raw = results.bootstrap((better - base)[0]).p
    assert [one.p for one in stated] == pytest.approx(significance.holm([raw, raw]))


def test_a_difference_within_the_noise_of_seeds_is_not_claimed():
    base = np.zeros((3, 500))
    steady = base + 0.02
    shaky = base + np.array([[-0.1], [0.1], [0.06]])  # mean 0.02, too
    for values, sd, reading in [(steady, 0.0, "higher"), (shaky, 0.106, "not shown")]:
        one, _ = state(result("frozen", base), result("end2end", values))
        assert one.difference.mean == pytest.approx(0.02)
        assert one.sd == pytest.approx(sd, abs=0.001)
        assert one.reading == reading


@pytest.mark.parametrize("capped", ["frozen", "end2end"])
def test_capped_runs_allow_no_conclusion(capped):
    values = noise()
    one, _ = state(
        result("frozen", values, capped == "frozen"),
        result("end2end", values + 1, capped == "end2end"),
    )
    assert one.reading == "capped"


def test_only_pairs_that_are_there_are_stated():
    values = noise()
    assert state(result("id", values), result("frozen", values)) == []
    pairs = [(one.run, one.base) for one in state(*(result(run, values) for run in (
        "frozen", "end2end", "frozen_transfer", "tuned_transfer", "end2end_transfer"
    )))]  # fmt: skip
    assert pairs == [pair for pair in contrasts.PAIRS for _ in results.METRICS]

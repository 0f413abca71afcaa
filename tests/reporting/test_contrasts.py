import numpy as np
import polars as pl
import pytest

from pipeline.reporting import contrasts, results
from pipeline.reporting.results import Group, Outcome, Result
from pipeline.retrieval import evaluation, significance
from tests.reporting.conftest import PAIRS

USERS = pl.DataFrame(schema=evaluation.USERS)


def result(run, values, capped=False):
    """A run with the same [S, U] values everywhere."""
    everywhere = {(part, m): values for part in ("valid", "test") for m in results.METRICS}
    return Result(run, capped, everywhere, {}, {}, {})


def state(*found, pairs=PAIRS):
    counts = {"users": 1, "candidates": 10}
    group = Group("near", "text", "sasrec")
    return contrasts.state(
        [Outcome(group, counts, {one.run: one for one in found}, [10], USERS)], pairs
    )


def outcome(content, user, **runs):
    """A group on `near` whose runs hit so many of 100 users."""
    found = {name: result(name, (np.arange(100) < hits)[None] * 1.0) for name, hits in runs.items()}
    group = Group("near", content, user)
    return Outcome(group, {"users": 100, "candidates": 10}, found, [10], USERS)


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


def test_a_difference_is_one_of_the_test():
    """Runs that hit 0.2 and 0.5 of each user's test, and 0.9 of validation alike."""
    found = []
    for run, hits in [("frozen", 0.2), ("end2end", 0.5)]:
        of = {"valid": np.full((1, 30), 0.9), "test": np.full((1, 30), hits)}
        values = {(part, metric): of[part] for part in of for metric in results.METRICS}
        found.append(Result(run, False, values, {}, {}, {}))
    assert [one.difference.mean for one in state(*found)] == pytest.approx([0.5 - 0.2] * 2)


def test_p_is_corrected_for_all_differences():
    rng = np.random.default_rng(1)
    base = rng.random((1, 300))
    better = base + rng.normal(0.02, 0.17, (1, 300))
    stated = state(result("frozen", base), result("end2end", better))
    raw = significance.sign_flip((better - base)[0])
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
    assert state(result("id", values), result("end2end", values)) == []
    pairs = [(one.run, one.base) for one in state(*(result(run, values) for run in (
        "id", "frozen", "frozen_paper", "end2end", "frozen_transfer", "tuned_transfer",
        "end2end_transfer",
    )))]  # fmt: skip
    assert {("frozen", "id"), ("frozen", "frozen_paper")} <= {*pairs}
    assert pairs == [tuple(pair) for pair in PAIRS for _ in results.METRICS]


def test_a_large_effect_stays_shown_among_hundreds_of_differences(monkeypatch):
    """25 targets, 8 pairs, 2 metrics: Holm asks for p < 0.05 / 400 of the first."""
    monkeypatch.setattr(significance, "RESAMPLES", 200)
    base = np.zeros((1, 200))
    better = base.copy()
    better[0, :40] = 1  # 40 of 200 users better, none worse: p = 2^-39
    outcomes = []
    for number in range(25):
        found = {run: result(run, base) for pair in PAIRS for run in pair}
        if not number:
            found["end2end"] = result("end2end", better)
        group = Group(f"t{number}", "text", "sasrec")
        outcomes.append(Outcome(group, {"users": 200, "candidates": 300}, found, [10], USERS))
    stated = contrasts.state(outcomes, PAIRS)
    assert len(stated) == 400
    claimed = [(one.group.target, one.pair) for one in stated if one.reading == "higher"]
    assert claimed == [("t0", "end2end - frozen")] * 2
    one = next(one for one in stated if one.reading == "higher")
    assert one.p == pytest.approx(2**-39 * 400)


@pytest.mark.parametrize(
    ("mean", "low", "high", "p", "sd", "reading"),
    [
        (0.02, 0.01, 0.03, 0.049, None, "higher"),
        (-0.02, -0.03, -0.01, 0.049, None, "lower"),
        (0.02, 0.01, 0.03, 0.05, None, "not shown"),  # p must be below 5 %
        (0.02, 0.0, 0.04, 0.049, None, "not shown"),  # the interval holds 0
        (-0.02, -0.04, 0.0, 0.049, None, "not shown"),
        (-0.02, -0.03, -0.01, 0.049, 0.019, "lower"),
        (-0.02, -0.03, -0.01, 0.049, 0.02, "not shown"),  # no more than the seeds differ by
    ],
)
def test_what_may_be_said_by_hand(mean, low, high, p, sd, reading):
    group, found = Group("near", "text", "sasrec"), significance.Estimate(mean, low, high)
    sides = (group, "end2end"), (group, "frozen")
    one = contrasts.Contrast(*sides[0], *sides[1], "hr@10", found, p, sd, capped=False)
    assert one.reading == reading


def test_any_two_runs_that_are_named_are_stated():
    """p is corrected for what is named."""
    base, better = np.zeros((1, 300)), np.zeros((1, 300))
    better[:, :20] = 0.5
    found = [result("itemknn", base), result("end2end_transfer", better), result("id", base)]
    pairs = [["end2end_transfer", "itemknn"], ["id", "end2end_transfer"], ["id", "popularity"]]
    stated = state(*found, pairs=pairs)
    assert [one.pair for one in stated[::2]] == [
        "end2end_transfer - itemknn",
        "id - end2end_transfer",
    ]
    assert [one.difference.mean for one in stated[::2]] == pytest.approx([10 / 300, -10 / 300])
    assert {one.sd for one in stated} == {None}
    assert [one.p for one in stated] == pytest.approx([min(1, 4 * 2**-19)] * 4)


@pytest.mark.parametrize("pair", [["end2end", "popularity"], ["popularity", "end2end"]])
def test_the_noise_of_seeds_counts_against_a_run_of_one_seed(pair):
    """What trains nothing has one: seeds that hit 20 and 0 of 300 users are 20 / 300 apart."""
    values = np.zeros((2, 300))
    values[0, :20] = 1
    found = result("end2end", values), result("popularity", np.zeros((1, 300)))
    one, _ = state(*found, pairs=[pair])
    assert one.p < contrasts.ALPHA and 0 not in (one.difference.low, one.difference.high)
    assert abs(one.difference.mean) == pytest.approx(10 / 300)
    assert one.sd == pytest.approx(20 / 300 / 2**0.5)  # 0.047
    assert one.reading == "not shown"


HITS = [  # of id and frozen
    outcome("text", "sasrec", id=10, frozen=20),
    outcome("both", "sasrec", id=10, frozen=40),
    outcome("text", "gru4rec", id=5, frozen=15),
    outcome("both", "gru4rec", id=5, frozen=25),
]
ACROSS = [
    (
        [["both/frozen", "text/frozen"]],  # with each user encoder: 40 - 20 and 25 - 15
        [
            ("near-both-sasrec", "both/frozen - text/frozen", 20),
            ("near-both-gru4rec", "both/frozen - text/frozen", 10),
        ],
    ),
    (
        [["gru4rec/frozen", "sasrec/frozen"]],  # with each content: 15 - 20 and 25 - 40
        [
            ("near-text-gru4rec", "gru4rec/frozen - sasrec/frozen", -5),
            ("near-both-gru4rec", "gru4rec/frozen - sasrec/frozen", -15),
        ],
    ),
    (
        [["both/sasrec/frozen", "text/gru4rec/frozen"]],
        [("near-both-sasrec", "both/sasrec/frozen - text/gru4rec/frozen", 25)],
    ),
    (
        [["frozen", "both/id"], ["both/sasrec/frozen", "id"]],  # the second is in the first
        [("near-both-sasrec", "frozen - id", 30), ("near-both-gru4rec", "frozen - id", 20)],
    ),
    ([["image/frozen", "text/frozen"], ["both/end2end", "both/frozen"]], []),
    (
        [["gru4rec/id", "sasrec/id"]],  # ids are the same with every content
        [("near-text-gru4rec", "gru4rec/id - sasrec/id", -5)],
    ),
    (
        [["sasrec/frozen", "id"], ["both/id", "frozen"]],  # the second is minus half of the first
        [
            ("near-text-sasrec", "frozen - id", 10),
            ("near-both-sasrec", "frozen - id", 30),
            ("near-both-gru4rec", "id - frozen", -20),
        ],
    ),
]


@pytest.mark.parametrize(("wanted", "expected"), ACROSS)
def test_runs_of_other_contents_and_user_encoders_are_compared(wanted, expected):
    stated = contrasts.state(HITS, wanted)
    found = [(one.group.name, one.pair, round(100 * one.difference.mean)) for one in stated]
    assert found == [row for row in expected for _ in results.METRICS]


def test_p_is_corrected_across_contents_too():
    stated = contrasts.state(HITS, [["both/frozen", "text/frozen"]])
    # 20 and 10 users for one side and none for the other, in two metrics alike: four differences.
    expected = [2.0**-19 * 4, 2.0**-19 * 4, 2.0**-9 * 2, 2.0**-9 * 2]
    assert [one.p for one in stated] == pytest.approx(expected)

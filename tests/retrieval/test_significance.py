import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.retrieval import significance


def generator(seed=0):
    return np.random.default_rng(seed)


def test_the_interval_is_that_of_resampling_users_one_by_one():
    values = generator().choice([-1.0, 0.0, 0.3, 1.0], 400, p=[0.1, 0.6, 0.1, 0.2])
    found = significance.bootstrap(values, generator(1))
    rows = generator(2).integers(0, 400, (10_000, 400))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)


def test_the_interval_is_that_of_95_percent_that_theory_gives(monkeypatch):
    """500 hits of 5,000 users: their number is binomial, between 459 and 542 with chance 95 %."""
    monkeypatch.setattr(significance, "RESAMPLES", 400_000)  # 94 % would be 460 and 540
    found = significance.bootstrap(np.repeat([1.0, 0.0], [500, 4500]), generator(1))
    expected = stats.binom.ppf([0.025, 0.975], 5000, 0.1)
    assert (5000 * found.low, 5000 * found.high) == pytest.approx(expected)


@pytest.mark.parametrize("numbers", [1, 3 * 7])
def test_the_interval_does_not_depend_on_how_many_numbers_are_drawn_at_once(monkeypatch, numbers):
    """3 different values: resamples are drawn one by one, and 7 by 7 with a rest."""
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    values = generator().choice([0.0, 0.5, 1.0], 50)
    expected = significance.bootstrap(values, generator(1))
    monkeypatch.setattr(significance, "CHUNK_DRAWS", numbers)
    assert significance.bootstrap(values, generator(1)) == expected


def by_enumeration(differences):
    """The share of all 2^n sign patterns whose sum is as far from 0 as the one found."""
    sizes = np.abs(differences)
    signs = np.array([*itertools.product([-1, 1], repeat=len(sizes))])
    return np.mean(np.abs(signs @ sizes) >= abs(differences.sum()) - 1e-12)


@pytest.mark.parametrize(
    "differences",
    [
        [1.0],
        [1, 1, 1, -1],
        [0.5, -0.5, 0.5, 1, 1],
        [1 / 3, 2 / 3, 1, -1 / 3, 1 / 3, 1 / 3],  # of three seeds: sums are equal but for rounding
        [1, 0.63, 0.5, -0.43, 0.39, 0.36, 0.33, -0.32, 0.3, 0.29, -1, 0.07],
        [0.37, -0.24, 0.13, 0.0],
    ],
)
def test_few_users_are_judged_by_all_patterns_of_signs(differences):
    expected = by_enumeration(np.array(differences))
    assert significance.sign_flip(np.array(differences)) == pytest.approx(expected, rel=1e-9)
    assert significance.sign_flip(-np.array(differences)) == pytest.approx(expected, rel=1e-9)


def test_p_by_hand():
    """8 users of 400 better and none worse: both tails of 2^8 patterns."""
    differences = np.zeros(400)
    differences[:8] = 1
    assert significance.sign_flip(differences) == pytest.approx(2 * 2**-8)
    assert significance.sign_flip(np.zeros(300)) == 1
    assert significance.sign_flip(np.array([-1.0, 1.0] * 50)) == pytest.approx(1)


@pytest.mark.parametrize(("better", "worse"), [(12, 3), (40, 70), (600, 500), (3000, 2800)])
def test_p_of_hits_is_that_of_the_exact_mcnemar_test(better, worse):
    differences = np.concatenate([np.ones(better), -np.ones(worse), np.zeros(50)])
    expected = stats.binomtest(better, better + worse).pvalue
    assert significance.sign_flip(differences) == pytest.approx(expected, rel=1e-6)


def test_p_has_no_floor():
    assert significance.sign_flip(np.ones(30)) == pytest.approx(2**-29)
    assert significance.sign_flip(generator().normal(1, 1, 300)) < 1e-20
    assert significance.sign_flip(generator().normal(1, 1, 300)) > 0


def test_the_normal_limit_agrees_with_drawn_signs():
    """60 users whose differences are all of different size: too many sums to list."""
    rng = generator(5)
    differences = rng.gamma(1.0, 1.0, 60) * rng.choice([-1, 1, 1], 60)
    signs = rng.choice([-1, 1], (200_000, 60))
    drawn = np.mean(np.abs(signs @ np.abs(differences)) >= abs(differences.sum()))
    assert 0.001 < drawn < 0.2
    assert significance.sign_flip(differences) == pytest.approx(drawn, rel=0.15)


def test_up_to_16_users_of_different_sizes_are_judged_exactly():
    """2^16 sums are MOST_SUMS; of 17 users it is erfc(|sum| / sqrt(2 sum of squares))."""
    differences = 2.0 ** -np.arange(17) * np.resize([1, 1, -1], 17)
    few = differences[:16]
    assert significance.sign_flip(few) == pytest.approx(by_enumeration(few), rel=1e-9)
    z = abs(differences.sum()) / np.sqrt((differences**2).sum())
    assert significance.sign_flip(differences) == pytest.approx(math.erfc(z / np.sqrt(2)))


@pytest.mark.parametrize("users", range(1, 9))
@pytest.mark.parametrize("sizes", [[1.0], [1, 0.5], [1, 0.63, 0.5, 0.43, 0.39, 0.36, 0.33, 0.32]])
def test_p_never_claims_too_much_where_few_users_differ(users, sizes):
    """Over all equally likely outcomes, p <= level has at most the chance of the level."""
    sizes = np.resize(sizes, users)
    p_values = np.array(
        [
            significance.sign_flip(sizes * signs)
            for signs in itertools.product([-1, 1], repeat=users)
        ]
    )
    for level in np.unique(p_values):
        assert np.mean(p_values <= level) <= level + 1e-12


@pytest.mark.parametrize("users", [17, 40, 400])
def test_p_is_fair_where_there_is_no_difference(users):
    """Differences of NDCG@10, of many sizes: 5 % of the p-values lie below 5 %."""
    rng = generator(3)
    gains = np.concatenate([[0], 1 / np.log2(np.arange(2, 12))])
    p_values = [
        significance.sign_flip(rng.choice(gains, users) - rng.choice(gains, users))
        for _ in range(400)
    ]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_the_same_seed_gives_the_same_interval():
    values = generator().normal(size=50)
    one, two = (significance.bootstrap(values, generator(4)) for _ in range(2))
    assert one == two


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04: 3 * 0.01, then max(0.03, 2 * 0.02), then max(0.04, 1 * 0.04)."""
    assert significance.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    corrected = significance.holm(p_values)
    for p, c in zip(p_values, corrected, strict=True):
        assert p <= c <= min(1, p * len(p_values)) + 1e-12
    assert np.argsort(p_values, kind="stable").tolist() == sorted(
        range(len(p_values)), key=lambda i: (corrected[i], p_values[i], i)
    )


def test_ranks_by_hand():
    """Two runs that tie share the mean of the ranks they take; all but rounding is the same."""
    scores = np.array([[0.5, 0.1, 0.3], [0.2, 0.2, 0.1], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.1, 0.2]])
    ranks = significance.ranks(scores)
    assert ranks.tolist() == [[1, 3, 2], [1.5, 1.5, 3], [2, 2, 2], [3, 2, 1]]
    assert (ranks.sum(axis=1) == 1 + 2 + 3).all()

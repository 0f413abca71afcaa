import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_the_interval_has_the_width_that_theory_gives():
    values = (generator().random(5000) < 0.1).astype(float)
    found = significance.bootstrap(values, generator(1))
    error = np.sqrt(0.1 * 0.9 / 5000)  # standard error of a share of 10 %
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_p_values_are_small_for_a_difference_and_1_for_none():
    values = generator().normal(1, 1, 300)
    assert significance.bootstrap(values, generator()).p == pytest.approx(2 / 10_001)
    assert significance.bootstrap(np.zeros(300), generator()).p == 1
    assert significance.bootstrap(np.array([-1.0, 1.0] * 50), generator()).p > 0.8


def test_p_values_are_fair_where_there_is_no_difference():
    rng = generator(3)
    draws = [significance.bootstrap(rng.choice([-1.0, 0, 1], 100), rng).p for _ in range(300)]
    assert np.mean(np.array(draws) < 0.1) == pytest.approx(0.1, abs=0.05)


def test_the_same_seed_gives_the_same_interval():
    values = generator().normal(size=50)
    one, two = (significance.bootstrap(values, generator(4)) for _ in range(2))
    assert one == two


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04: 3 * 0.01, then max(0.03, 2 * 0.02), then max(0.04, 1 * 0.04)."""
    assert significance.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    corrected = significance.holm(p_values)
    for p, c in zip(p_values, corrected, strict=True):
        assert p <= c <= min(1, p * len(p_values)) + 1e-12
    assert np.argsort(p_values, kind="stable").tolist() == sorted(
        range(len(p_values)), key=lambda i: (corrected[i], p_values[i], i)
    )
